"""The one resource of the platform: settings and the stores behind them, found when a run asks and not before."""

from functools import cache
from typing import TYPE_CHECKING

import dagster as dg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    import psycopg

    from surveillance_pipelines.storage.endpoints import Endpoints
    from surveillance_pipelines.storage.lake import Lake
    from surveillance_pipelines.storage.registry import ModelRegistry


class PlatformResource(dg.ConfigurableResource):
    """Settings, database, lake, model registry and clock.

    Holds nothing itself: settings are read from the environment at run time, and services are resolved once per
    process. Definitions therefore load with no credentials, no database and no network.
    """

    @property
    def settings(self) -> Settings:
        return Settings()

    @property
    def clock(self) -> Clock:
        return SYSTEM_CLOCK

    @property
    def endpoints(self) -> "Endpoints":
        return _resolve_once(self.settings)

    @property
    def lake(self) -> "Lake":
        from surveillance_pipelines.storage.lake import Lake

        return Lake(self.endpoints.lake_url, self.endpoints.lake_storage_options)

    @property
    def registry(self) -> "ModelRegistry":
        from surveillance_pipelines.storage.registry import ModelRegistry

        return ModelRegistry(self.endpoints.mlflow_tracking_uri)

    def connect(self) -> "psycopg.Connection":
        """Open a connection for a ``with`` block, which commits at its end, or rolls back on an error, and closes."""
        from surveillance_pipelines.storage.database import connect

        return connect(self.endpoints.database_url)


@cache
def _resolve_once(settings: Settings) -> "Endpoints":
    from surveillance_pipelines.storage.endpoints import resolve_endpoints

    return resolve_endpoints(settings)
