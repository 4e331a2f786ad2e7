"""Assets of ticks, 1-minute bars and resampled bars in the lake, partitioned by day."""

from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import DAILY, OWNERS, tags
from surveillance_pipelines.defs.bars.checks import silence_result, uniqueness_result
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.metadata import frame_metadata
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    from surveillance_pipelines.contracts.market import Timeframe

RESAMPLES: Final[tuple["Timeframe", ...]] = ("5m", "15m", "1h", "4h", "1d")

_REPORTED_VOLUME: Final = "Size of the trade; with SQS_VOLUME_IS_CUMULATIVE, the running total of the day"

_COMMON: Final[dict[str, Any]] = {
    "group_name": "bars",
    "kinds": {"polars", "deltalake"},
    "owners": OWNERS,
    "partitions_def": DAYS,
    "tags": tags("warehouse", "lake"),
}


@dg.asset(
    **_COMMON,
    deps=["market_queue", "instruments"],
    code_version=code_version("services.bars"),
    check_specs=[
        dg.AssetCheckSpec(
            "ticks_are_unique", asset="ticks", blocking=True, description="No queue message is stored twice."
        )
    ],
)
def ticks(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Accepted trades of the queue, with the ledger outcome scored or late."""
    from surveillance_pipelines.services.bars import write_ticks

    written = write_ticks(platform, *days_of_run(context))
    frame, version = written.frame, written.version
    repeats = frame.height - frame["source_message_id"].n_unique()
    return dg.MaterializeResult(
        metadata=frame_metadata(frame, version=version, meanings={"volume": _REPORTED_VOLUME}),
        check_results=[
            dg.AssetCheckResult(check_name="ticks_are_unique", passed=repeats == 0, metadata={"repeats": repeats})
        ],
    )


@dg.asset(
    **_COMMON,
    deps=["bars_landed", "yahoo_bars", "ticks", "trading_sessions"],
    freshness_policy=DAILY,
    code_version=code_version("services.bars"),
    check_specs=[
        dg.AssetCheckSpec(
            "bars_are_unique",
            asset="bars_1m",
            blocking=True,
            description="One row per symbol, start and revision.",
        ),
        dg.AssetCheckSpec(
            "bars_have_no_gaps",
            asset="bars_1m",
            description="No symbol has a long gap within a session.",
        ),
    ],
)
def bars_1m(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """1-minute bars of all sources with revisions; docs/market-data.md describes the precedence of sources."""
    from surveillance_pipelines.services.bars import resolve_days

    first, last = days_of_run(context)
    resolved = resolve_days(platform, first, last)
    return dg.MaterializeResult(
        metadata=frame_metadata(resolved.frame, version=resolved.version) | resolved.counts,
        check_results=[
            uniqueness_result("bars_are_unique", resolved.frame),
            silence_result("bars_have_no_gaps", resolved.frame, platform.session_table(first, last)),
        ],
    )


def _resample_asset(timeframe: "Timeframe") -> Any:
    name = f"bars_{timeframe}"
    check_name = f"{name}_are_unique"
    alignment = "one bar per exchange session" if timeframe == "1d" else "aligned to the opening of the session"

    @dg.asset(
        **_COMMON,
        name=name,
        deps=["bars_1m", "trading_sessions"],
        description=f"{timeframe} bars, resampled from the 1-minute bars of revision 0; {alignment}.",
        freshness_policy=DAILY,
        code_version=code_version("services.bars"),
        check_specs=[
            dg.AssetCheckSpec(
                check_name, asset=name, blocking=True, description="One row per symbol, start and revision."
            )
        ],
    )
    def _resampled(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
        from surveillance_pipelines.services.bars import resample_days

        written = resample_days(platform, timeframe, *days_of_run(context))
        return dg.MaterializeResult(
            metadata=frame_metadata(written.frame, version=written.version),
            check_results=[uniqueness_result(check_name, written.frame)],
        )

    return _resampled


resampled_bars: Final = [_resample_asset(timeframe) for timeframe in RESAMPLES]
