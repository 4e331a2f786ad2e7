"""The one resource of the platform: settings and the stores behind them, found when a run asks and not before."""

from datetime import date, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final

import dagster as dg
from pydantic import Field

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    import polars as pl
    import psycopg

    from surveillance_pipelines.contracts.endpoints import Endpoints
    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.stores.lake import Lake
    from surveillance_pipelines.stores.provenance import ScoringRun
    from surveillance_pipelines.stores.registry import ModelRegistry


_AROUND: Final = timedelta(days=14)
"""An instant between sessions belongs to the nearer one, which may lie beyond a long holiday."""


class PlatformResource(dg.ConfigurableResource):
    """Settings, database, lake, model registry and clock.

    Holds nothing itself: settings are read from the environment at run time, and services are resolved once per
    process. Definitions therefore load with no credentials, no database and no network.
    """

    env_file: str = Field(default=".env", description="File of settings beside the environment; empty for none.")

    @property
    def settings(self) -> Settings:
        return Settings(_env_file=self.env_file or None)  # pyright: ignore[reportCallIssue]

    @property
    def clock(self) -> Clock:
        return SYSTEM_CLOCK

    @property
    def endpoints(self) -> "Endpoints":
        return _resolve_once(self.settings)  # pyright: ignore[reportArgumentType] (frozen, so hashable)

    @property
    def lake(self) -> "Lake":
        from surveillance_pipelines.stores.lake import Lake

        return Lake(self.endpoints.lake_url, self.endpoints.lake_storage_options)

    @property
    def registry(self) -> "ModelRegistry":
        from surveillance_pipelines.stores.registry import ModelRegistry

        return ModelRegistry(self.endpoints.mlflow_tracking_uri, self.endpoints.mlflow_artifact_root)

    def today(self) -> date:
        return now(self.clock).date()

    def session_range(self, first: date, last: date) -> tuple[date, date]:
        """Return the first and last session date that ``session_table`` reads for a range of days."""
        return first - _AROUND, last + _AROUND

    def record_run(self, run: "ScoringRun") -> None:
        """Record what a run stands on, at once, so that what it writes can be replayed."""
        from surveillance_pipelines.stores.provenance import record_run

        with self.connect() as connection:
            record_run(connection, self.settings, run)

    def session_table(self, first: date, last: date) -> "SessionTable":
        """Return the sessions around a range of days, of every calendar that an instrument trades on."""
        from surveillance_pipelines.stores.instruments import load_instruments
        from surveillance_pipelines.stores.sessions import load_sessions

        with self.connect() as connection:
            calendar_of = {row.symbol: row.calendar for row in load_instruments(connection)}
            default = self.settings.default_calendar
            calendars = [default, *sorted(set(calendar_of.values()) - {default})]
            table = load_sessions(connection, calendars, *self.session_range(first, last))
        return table.with_calendars(calendar_of)

    def replace_days(self, table: str, frame: "pl.DataFrame", first: date, last: date) -> int:
        """Make a lake table hold exactly ``frame`` on the days of a range, and return the table's new version."""
        lake = self.lake
        held = {day for day in lake.days(table) if first <= day <= last}
        return lake.write_days(table, frame, days=sorted(held | set(frame["date"].unique())))

    def connect(self) -> "psycopg.Connection":
        """Open a connection for a ``with`` block, which commits at its end, or rolls back on an error, and closes."""
        from surveillance_pipelines.stores.database import connect

        return connect(self.endpoints.database_url)


@cache
def _resolve_once(settings: Settings) -> "Endpoints":
    from surveillance_pipelines.services.provisioning import provision

    return provision(settings)
