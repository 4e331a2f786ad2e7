"""The stores of all use cases, opened on first use."""

import os
from abc import ABC, abstractmethod
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now
from surveillance_pipelines.services.configuration import read_settings
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    import polars as pl
    import psycopg

    from surveillance_pipelines.contracts.endpoints import Endpoints
    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.stores.lake import Lake
    from surveillance_pipelines.stores.provenance import ScoringRun
    from surveillance_pipelines.stores.registry import ModelRegistry
    from surveillance_pipelines.transports.sqs import QueueClient

_SESSION_MARGIN: Final = timedelta(days=14)
"""An instant between sessions belongs to the nearer one, which may be after a long holiday."""


class Stores(ABC):
    """Settings and stores, the argument of every use case.

    Commands pass a ``Platform``; Dagster assets pass the ``PlatformResource``.
    """

    @property
    @abstractmethod
    def settings(self) -> Settings: ...

    @property
    @abstractmethod
    def clock(self) -> Clock: ...

    @property
    @abstractmethod
    def endpoints(self) -> "Endpoints":
        """Addresses of all stores and queues; the first access starts the embedded services if they are needed."""

    @property
    def lake(self) -> "Lake":
        from surveillance_pipelines.stores.lake import Lake

        return Lake(self.endpoints.lake_url, self.endpoints.lake_storage_options)

    @property
    def registry(self) -> "ModelRegistry":
        from surveillance_pipelines.stores.registry import ModelRegistry

        return ModelRegistry(self.endpoints.mlflow_tracking_uri, self.endpoints.mlflow_artifact_root)

    @property
    def home(self) -> Path:
        return self.settings.surveillance_home

    @property
    def models_path(self) -> Path:
        return self.settings.models_path

    def connect(self, *, autocommit: bool = False) -> "psycopg.Connection":
        """Open a connection for a ``with`` block, which commits at its end, or rolls back on an error, and closes."""
        from surveillance_pipelines.stores.database import connect

        return connect(self.endpoints.database_url, autocommit=autocommit)

    def queue(self, url: str) -> "QueueClient":
        from surveillance_pipelines.transports.sqs import QueueClient

        found = self.endpoints
        return QueueClient(found.sqs_endpoint_url, self.settings.aws_region, found.aws, url, clock=self.clock)

    def today(self) -> date:
        return now(self.clock).date()

    def session_range(self, first: date, last: date) -> tuple[date, date]:
        """Return the first and last session date that ``session_table`` reads for a range of days."""
        return first - _SESSION_MARGIN, last + _SESSION_MARGIN

    def session_table(self, first: date, last: date) -> "SessionTable":
        """Return the sessions around a range of days for the calendars of all instruments."""
        from surveillance_pipelines.stores.instruments import load_instruments
        from surveillance_pipelines.stores.sessions import load_sessions

        with self.connect() as connection:
            calendar_of = {row.symbol: row.calendar for row in load_instruments(connection)}
            default = self.settings.default_calendar
            calendars = [default, *sorted(set(calendar_of.values()) - {default})]
            table = load_sessions(connection, calendars, *self.session_range(first, last))
        return table.with_calendars(calendar_of)

    def replace_days(self, table: str, frame: "pl.DataFrame", first: date, last: date) -> int:
        """Replace the rows of a lake table in a range of days by ``frame``; return the new table version."""
        lake = self.lake
        held = {day for day in lake.days(table) if first <= day <= last}
        return lake.write_days(table, frame, days=sorted(held | set(frame["date"].unique())))

    def record_run(self, run: "ScoringRun") -> None:
        """Record the inputs of a run in a separate transaction, so that its outputs can be replayed."""
        from surveillance_pipelines.stores.provenance import record_run

        with self.connect() as connection:
            record_run(connection, self.settings, run)


class Platform(Stores):
    """The stores of a process outside Dagster, such as a command."""

    def __init__(self, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings, self._clock = settings, clock
        self._endpoints: Endpoints | None = None

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def endpoints(self) -> "Endpoints":
        from surveillance_pipelines.services.provisioning import provision

        if self._endpoints is None:
            self._endpoints = provision(self.settings)
        return self._endpoints

    def prepare(self) -> "Endpoints":
        """Create and migrate what is missing, also in embedded services that were prepared before."""
        from surveillance_pipelines.services.provisioning import provision

        self._endpoints = provision(self.settings, verify=True)
        return self._endpoints

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    def environment(self) -> dict[str, str]:
        """Return the environment that gives a child process the same services and Dagster instance."""
        from surveillance_pipelines.embedded.parent_watch import COMMAND, HOLDS
        from surveillance_pipelines.services.endpoints import child_environment

        tied = {COMMAND: str(os.getpid()), **({HOLDS: str(self.home)} if self.endpoints.embedded else {})}
        return {**os.environ, **child_environment(self.endpoints), **tied, "DAGSTER_HOME": str(self.dagster_home)}


def open_platform() -> Platform:
    """Return a platform with the settings of the environment and ``.env``.

    Raises:
        InvalidSettingsError: if a setting is invalid; the message names each of them.
        InvalidInputError: if a library cannot use the home or the folder of the lake.
    """
    from surveillance_pipelines.services.endpoints import require_usable_folders

    settings = read_settings()
    require_usable_folders(settings)
    return Platform(settings)
