"""The fallback: what Yahoo can fill where the queue left sessions empty."""

from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

import dagster as dg

from surveillance_pipelines.clock import now
from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import OWNERS, REASON_TAG, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.metadata import counts_table, frame_metadata
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from surveillance_pipelines.market.availability import Gap
    from surveillance_pipelines.market.client import FetchResult


@dg.asset(
    group_name="bars",
    kinds={"api", "polars", "deltalake"},
    owners=OWNERS,
    partitions_def=DAYS,
    deps=["yahoo_finance", "bars_landed", "ticks", "trading_sessions"],
    tags=tags("warehouse", "lake"),
    code_version=code_version("market.yahoo", "market.availability", "market.resolution"),
    check_specs=[
        dg.AssetCheckSpec(
            "yahoo_answers_for_every_gap",
            asset="yahoo_bars",
            description="Yahoo had bars of every symbol that lacks some; otherwise the day is degraded, and says so.",
        )
    ],
)
def yahoo_bars(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Bars from Yahoo for sessions in which a watched symbol lacks some, appended to `bars_landed`.

    Without the network, or without yfinance, nothing lands and the check warns; the run goes on. Switched off by
    `FALLBACK_TO_YFINANCE`, nobody is asked.
    """
    settings = platform.settings
    if not settings.fallback_to_yfinance:
        return _nothing("switched off: FALLBACK_TO_YFINANCE is false")
    # A sensor's run comes because the queue has stopped: then the few minutes since count too.
    gaps, too_old = _gaps(platform, *days_of_run(context), to_the_minute=REASON_TAG in context.run.tags)
    if not gaps:
        return _nothing(f"no gap that Yahoo could fill; {too_old} are older than it remembers")
    if find_spec("yfinance") is None:
        remedy = "install the extra `yahoo`, or set FALLBACK_TO_YFINANCE=false"
        return _nothing(f"yfinance is not installed, {len(gaps)} gaps stay: {remedy}", passed=False)
    result, news = _fetch(platform, gaps)
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
            **frame_metadata(news),
            "gaps": len(gaps),
            "gaps_too_old": too_old,
            "refused": len(result.refusals),
            "known_before": result.frame.height - news.height,
            "unfinished": result.unfinished,
            "outcomes": counts_table(outcomes),
        },
        check_results=[_answer(not result.missing, "; ".join(result.outcomes[name].reason for name in result.missing))],
    )


def _gaps(
    platform: PlatformResource, first: "date", last: "date", *, to_the_minute: bool
) -> "tuple[tuple[Gap, ...], int]":
    """Return the gaps of a range that Yahoo can fill, and how many it cannot any more."""
    import polars as pl

    from surveillance_pipelines.market.availability import EDGE_MINUTES, gaps_to_fill
    from surveillance_pipelines.stores.live_rows import read_live_bars

    # A session may begin or end on a neighbouring UTC day.
    around = first - timedelta(days=1), last + timedelta(days=1)
    with platform.connect() as connection:
        live = read_live_bars(connection, *around)
    plan = gaps_to_fill(
        pl.concat([_landed(platform, *around), live]),
        platform.session_table(first, last),
        platform.settings.symbols,
        first=first,
        last=last,
        now=platform.clock.now_us(),
        edge_minutes=0 if to_the_minute else EDGE_MINUTES,
    )
    return plan.fill, len(plan.too_old)


def _landed(platform: PlatformResource, first: "date", last: "date") -> "pl.DataFrame":
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA

    return platform.lake.read("bars_landed", days=(first, last), schema=BAR_SCHEMA)


def _fetch(platform: PlatformResource, gaps: "tuple[Gap, ...]") -> "tuple[FetchResult, pl.DataFrame]":
    """Ask Yahoo for the days of the gaps, land what is new in its answer, and record the visit."""
    from surveillance_pipelines.market.availability import days_of
    from surveillance_pipelines.market.resolution import without_repeats
    from surveillance_pipelines.market.yahoo import fetch_bars
    from surveillance_pipelines.stores.ingestion_runs import IngestionRun, record_ingestion_run

    settings, started, days = platform.settings, now(platform.clock), days_of(gaps)
    result = fetch_bars(
        sorted({gap.symbol for gap in gaps}),
        start=days[0],
        end=days[-1] + timedelta(days=1),
        adjustment=settings.yfinance_adjustment,
        cache_folder=settings.surveillance_home / "cache" / "yfinance",
        batch_size=settings.yfinance_batch_size,
        max_attempts=settings.yfinance_max_attempts,
        clock=platform.clock,
    )
    # While the queue is silent the same day is asked for again and again.
    news = without_repeats(result.frame, _landed(platform, days[0], days[-1]))
    if not news.is_empty():
        platform.lake.append("bars_landed", news, batch_id=result.batch_id)
    visit = IngestionRun(
        source="yfinance",
        started_at=started,
        finished_at=now(platform.clock),
        rows_in=result.rows_in - result.unfinished,
        landed=news.height,
        refusals=result.refusals,
        duplicates=result.duplicates + result.frame.height - news.height,
        detail={symbol: ended.outcome for symbol, ended in result.outcomes.items()} | {"fallback": True},
    )
    with platform.connect() as connection:
        record_ingestion_run(connection, visit)
    return result, news


def _nothing(reason: str, *, passed: bool = True) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={"dagster/row_count": 0, "reason": reason}, check_results=[_answer(passed=passed, reason=reason)]
    )


def _answer(passed: bool, reason: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="yahoo_answers_for_every_gap",
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=reason or None,
    )
