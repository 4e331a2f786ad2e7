"""Predictors by bundle hash, for replays."""

from typing import Any, Final

import psycopg

from surveillance_pipelines.models.bundle import BundleError, load_bundle
from surveillance_pipelines.models.ensemble import Ensemble, Predictor
from surveillance_pipelines.models.warmup import WARMUP_BUNDLE, WarmupRules
from surveillance_pipelines.replay.comparison import CannotReplayError
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.bundle_folders import bundle_folder
from surveillance_pipelines.stores.deployments import deployed_paths


class BundleCache:
    """Loads each predictor once. Every registered bundle stays on disk; retraining adds a folder."""

    def __init__(self, connection: psycopg.Connection[Any], settings: Settings) -> None:
        self._connection: Final = connection
        self._settings: Final = settings
        self._predictors: dict[str, Predictor] = {WARMUP_BUNDLE: WarmupRules()}

    def predictor(self, bundle_hash: str) -> Predictor:
        """Return the predictor of a bundle, with all of its models.

        Raises:
            CannotReplayError: if the bundle is missing, damaged, or of a kind that this release does not know.
        """
        if bundle_hash not in self._predictors:
            self._predictors[bundle_hash] = self._ensemble(bundle_hash)
        return self._predictors[bundle_hash]

    def _ensemble(self, bundle_hash: str) -> Ensemble:
        recorded = deployed_paths(self._connection, bundle_hash)
        folders = [bundle_folder(self._settings.models_path, path, bundle_hash) for path in recorded]
        refused: list[str] = []
        for path in dict.fromkeys(folders):
            if not path.is_dir():
                continue
            try:
                return Ensemble(load_bundle(path, expected_hash=bundle_hash, any_view_code=True))
            except BundleError as error:
                refused.append(str(error))
        if refused:
            raise CannotReplayError("; ".join(refused))
        where = ", ".join(map(str, dict.fromkeys(folders))) or "no folder on record in surveillance.model_versions"
        raise CannotReplayError(
            f"expected the model bundle {bundle_hash} in {where}, found none: restore that folder from a backup"
        )
