"""The stores behind a command, found when it first asks for one: ``--help`` and a bare file need none of them."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    import psycopg

    from surveillance_pipelines.contracts.endpoints import Endpoints
    from surveillance_pipelines.stores.lake import Lake
    from surveillance_pipelines.stores.registry import ModelRegistry
    from surveillance_pipelines.transports.sqs import QueueClient


@dataclass(frozen=True)
class Platform:
    """Settings and what they lead to. ``endpoints`` starts the embedded services where nothing is configured."""

    settings: Settings
    clock: Clock = SYSTEM_CLOCK

    @cached_property
    def endpoints(self) -> "Endpoints":
        from surveillance_pipelines.services.provisioning import provision

        return provision(self.settings)

    @cached_property
    def lake(self) -> "Lake":
        from surveillance_pipelines.stores.lake import Lake

        return Lake(self.endpoints.lake_url, self.endpoints.lake_storage_options)

    @cached_property
    def registry(self) -> "ModelRegistry":
        from surveillance_pipelines.stores.registry import ModelRegistry

        return ModelRegistry(self.endpoints.mlflow_tracking_uri, self.endpoints.mlflow_artifact_root)

    @property
    def home(self) -> Path:
        return self.settings.surveillance_home

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    def connect(self) -> "psycopg.Connection":
        """Open a connection for a ``with`` block, which commits at its end, or rolls back on an error, and closes."""
        from surveillance_pipelines.stores.database import connect

        return connect(self.endpoints.database_url)

    def queue(self, url: str) -> "QueueClient":
        from surveillance_pipelines.transports.sqs import QueueClient

        found = self.endpoints
        return QueueClient(found.sqs_endpoint_url, self.settings.aws_region, found.aws, url, clock=self.clock)

    def environment(self) -> dict[str, str]:
        """Return the variables with which a child process finds the same services and the same Dagster instance."""
        from surveillance_pipelines.services.endpoints import child_environment

        return {**os.environ, **child_environment(self.endpoints), "DAGSTER_HOME": str(self.dagster_home)}


def open_platform() -> Platform:
    """Read the settings from the environment and ``.env``."""
    return Platform(Settings())
