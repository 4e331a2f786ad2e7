"""Assets of the dbt models: staging, intermediate and marts in PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from surveillance_pipelines.defs.marts.dbt import with_row_counts
from surveillance_pipelines.defs.marts.project import postgres_environment, require_manifest
from surveillance_pipelines.defs.marts.translator import MartsTranslator
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.services.endpoints import child_environment


@dbt_assets(manifest=require_manifest(), dagster_dbt_translator=MartsTranslator(), pool="marts")
def marts(
    context: dg.AssetExecutionContext, dbt: DbtCliResource, platform: dg.ResourceParam[PlatformResource]
) -> Iterator[Any]:
    """Build the selected models and run their tests; each test is an asset check."""
    with (
        postgres_environment(child_environment(platform.endpoints)),
        TemporaryDirectory(prefix="dbt-") as target,
    ):
        yield from with_row_counts(dbt.cli(["build"], context=context, target_path=Path(target)))
