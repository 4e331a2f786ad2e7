"""Folder of a training run, for the files that its assets exchange."""

import dagster as dg

from surveillance_pipelines.services.build_folder import BuildFolder
from surveillance_pipelines.settings import Settings


def build_folder(context: dg.AssetExecutionContext, settings: Settings) -> BuildFolder:
    """Return the folder of this run; a retry from failure uses the folder of its root run."""
    return BuildFolder.of_run(settings.models_path, context.run.root_run_id or context.run.run_id)
