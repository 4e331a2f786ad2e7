"""The fallback: what Yahoo can fill where the queue left sessions empty."""

from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from surveillance_pipelines.clock import now
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.code_versions import code_version
from surveillance_pipelines.defs.metadata import counts_table, frame_metadata
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    from datetime import date

    from surveillance_pipelines.market.availability import Gap
    from surveillance_pipelines.market.client import FetchResult


@dg.asset(
    group_name="bars",
    kinds={"api", "polars", "deltalake"},
    owners=OWNERS,
    partitions_def=DAYS,
    deps=["yahoo_finance", "bars_landed", "ticks", "trading_sessions"],
    tags=tags("warehouse", "lake"),
    code_version=code_version("market/yahoo.py", "market/client.py", "market/availability.py"),
    check_specs=[
        dg.AssetCheckSpec(
            "yahoo_answers_for_every_gap",
            asset="yahoo_bars",
            description="Every symbol that lacks bars got them; otherwise the day is degraded, and says so.",
        )
    ],
)
def yahoo_bars(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Bars from Yahoo for sessions in which a watched symbol has too few, appended to `bars_landed`.

    Without the network, or switched off by `FALLBACK_TO_YFINANCE`, nothing lands and the check warns; the run goes on.
    """
    settings = platform.settings
    if not settings.fallback_to_yfinance:
        return _nothing("switched off: FALLBACK_TO_YFINANCE is false")
    gaps, too_old = _gaps(platform, *days_of_run(context))
    if not gaps:
        return _nothing(f"no gap that Yahoo could fill; {too_old} are older than it remembers")
    result = _fetch(platform, gaps)
    outcomes = [
        {
            "symbol": symbol,
            "outcome": ended.outcome,
            "rows": ended.rows,
            "attempts": ended.attempts,
            "reason": ended.reason,
        }
        for symbol, ended in sorted(result.outcomes.items())
    ]
    return dg.MaterializeResult(
        metadata={
            **frame_metadata(result.frame),
            "gaps": len(gaps),
            "gaps_too_old": too_old,
            "refused": len(result.refusals),
            "outcomes": counts_table(outcomes),
        },
        check_results=[
            _answer(not result.missing, f"no bars for: {', '.join(result.missing)}" if result.missing else "")
        ],
    )


def _gaps(platform: PlatformResource, first: "date", last: "date") -> "tuple[tuple[Gap, ...], int]":
    """Return the gaps of a range that Yahoo can fill, and how many it cannot any more."""
    import polars as pl

    from surveillance_pipelines.contracts.market import BAR_SCHEMA
    from surveillance_pipelines.market.availability import gaps_to_fill
    from surveillance_pipelines.storage.live_rows import read_live_bars

    landed = platform.lake.read("bars_landed", days=(first, last), schema=BAR_SCHEMA)
    with platform.connect() as connection:
        live = read_live_bars(connection, first, last)
    plan = gaps_to_fill(
        pl.concat([landed, live]),
        platform.session_table(first, last),
        platform.settings.symbols,
        first=first,
        last=last,
        now=platform.clock.now_us(),
    )
    return plan.fill, len(plan.too_old)


def _fetch(platform: PlatformResource, gaps: "tuple[Gap, ...]") -> "FetchResult":
    """Ask Yahoo for the days of the gaps, land what it gives, and record the visit."""
    from surveillance_pipelines.market.availability import days_of
    from surveillance_pipelines.market.yahoo import fetch_bars
    from surveillance_pipelines.storage.visits import Visit, record_visit

    settings, started, days = platform.settings, now(platform.clock), days_of(gaps)
    result = fetch_bars(
        sorted({gap.symbol for gap in gaps}),
        start=days[0],
        end=days[-1] + timedelta(days=1),
        adjustment=settings.yfinance_adjustment,
        cache_folder=settings.surveillance_home / "yfinance",
        batch_size=settings.yfinance_batch_size,
        max_attempts=settings.yfinance_max_attempts,
        clock=platform.clock,
    )
    if not result.frame.is_empty():
        platform.lake.append("bars_landed", result.frame, batch_id=result.batch_id)
    visit = Visit(
        source="yfinance",
        started_at=started,
        finished_at=now(platform.clock),
        rows_in=result.rows_in,
        landed=result.frame.height,
        refusals=result.refusals,
        duplicates=result.duplicates,
        detail={symbol: ended.outcome for symbol, ended in result.outcomes.items()} | {"fallback": True},
    )
    with platform.connect() as connection:
        record_visit(connection, visit)
    return result


def _nothing(reason: str) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={"dagster/row_count": 0, "reason": reason}, check_results=[_answer(passed=True, reason=reason)]
    )


def _answer(passed: bool, reason: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="yahoo_answers_for_every_gap",
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=reason or None,
    )
