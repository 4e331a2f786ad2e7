"""The lake table of features, computed from ``bars_1m``."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from surveillance_pipelines.contracts.feature_tables import feature_table_of
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class FeatureDays:
    """Features of a range of days, the table version of the write, and the number of bars read."""

    frame: "pl.DataFrame"
    version: int
    bars_read: int


def compute_feature_days(stores: Stores, view: str, first: date, last: date, *, run_id: str) -> FeatureDays:
    """Write a view's features of every revision-0 bar of a range of days, and record the inputs of the run.

    The state of a day is rebuilt from the 512 bars before it, so days can be computed in any order.
    """
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.features.batch import features_of_days, with_history
    from surveillance_pipelines.features.views import VIEWS
    from surveillance_pipelines.stores.provenance import ScoringRun

    lake = stores.lake
    bars_version = lake.version("bars_1m")

    def read(since: date, until: date) -> "pl.DataFrame":
        return lake.read("bars_1m", days=(since, until), schema=BAR_SCHEMA, version=bars_version)

    bars = with_history(read, first, last)
    days = sorted(day for day in bars["date"].unique() if first <= day <= last)
    since = min(bars["date"].to_list(), default=first)
    sessions = stores.session_table(since, last)
    frame = features_of_days(bars, days, sessions, VIEWS[view])
    table = feature_table_of(view)
    version = stores.replace_days(table, frame, first, last)
    stores.record_run(
        ScoringRun(
            lane="features",
            run_id=run_id,
            calendar_of=sessions.calendar_of,
            days=(first, last),
            sessions=stores.session_range(since, last),
            versions_read={"bars_1m": bars_version},
            table_written=table,
            version=version,
        )
    )
    return FeatureDays(frame, version, bars.height)
