"""Features of every closed bar, in the lake, by day."""

from typing import TYPE_CHECKING, Final

import dagster as dg

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import DAILY, OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run, days_within
from surveillance_pipelines.defs.features.checks import finiteness_result
from surveillance_pipelines.defs.metadata import frame_metadata
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

TABLE: Final = "features_core_v1"


@dg.asset(
    name=TABLE,
    group_name="features",
    kinds={"polars", "numba", "deltalake"},
    owners=OWNERS,
    partitions_def=DAYS,
    deps=["bars_1m", "trading_sessions"],
    freshness_policy=DAILY,
    tags=tags("warehouse", "lake") | {"surveillance/feature-view": "core_v1"},
    code_version=code_version("features.batch"),
    check_specs=[
        dg.AssetCheckSpec(
            "features_are_finite",
            asset=TABLE,
            blocking=True,
            description="No feature is infinite, and none is missing that is always defined.",
        )
    ],
)
def features_core_v1(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Feature view `core_v1` of every revision-0 bar: the kernel that the live lane runs, over whole days.

    The state of a day is rebuilt from the 512 bars before it, so days can be filled in any order.
    """
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.features.batch import features_of_days, with_history
    from surveillance_pipelines.features.views import CORE_V1
    from surveillance_pipelines.stores.provenance import ScoringRun

    first, last = days_of_run(context)
    lake = platform.lake
    bars_version = lake.version("bars_1m")

    def read(since: "date", until: "date") -> "pl.DataFrame":
        return lake.read("bars_1m", days=(since, until), schema=BAR_SCHEMA, version=bars_version)

    bars = with_history(read, first, last)
    days = days_within(bars["date"].unique().to_list(), first, last)
    since = min(bars["date"].to_list(), default=first)
    sessions = platform.session_table(since, last)
    frame = features_of_days(bars, days, sessions)
    version = platform.replace_days(TABLE, frame, first, last)
    platform.record_run(
        ScoringRun(
            lane="features",
            run_id=context.run.run_id,
            calendar_of=sessions.calendar_of,
            days=(first, last),
            sessions=platform.session_range(since, last),
            versions_read={"bars_1m": bars_version},
            table_written=TABLE,
            version=version,
        )
    )
    metadata = frame_metadata(frame, version=version, meanings=CORE_V1.descriptions) | {"bars_read": bars.height}
    return dg.MaterializeResult(metadata=metadata, check_results=[finiteness_result(frame)])
