"""The fallback: what Yahoo can fill where the queue left sessions empty."""

import dagster as dg

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import OWNERS, REASON_TAG, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.metadata import counts_table, frame_metadata
from surveillance_pipelines.defs.resources import PlatformResource


@dg.asset(
    group_name="bars",
    kinds={"api", "polars", "deltalake"},
    owners=OWNERS,
    partitions_def=DAYS,
    deps=["yahoo_finance", "bars_landed", "ticks", "trading_sessions"],
    tags=tags("warehouse", "lake"),
    code_version=code_version("services.yahoo_fallback"),
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
    from surveillance_pipelines.services.yahoo_fallback import fill_gaps

    # A sensor's run comes because the queue has stopped: then the few minutes since count too.
    done = fill_gaps(platform, *days_of_run(context), to_the_minute=REASON_TAG in context.run.tags)
    found = done.ingestion
    if found is None:
        return _nothing(done.reason, passed=not done.degraded)
    outcomes = [
        {
            "symbol": symbol,
            "outcome": ended.outcome,
            "rows": ended.rows,
            "attempts": ended.attempts,
            "reason": ended.reason,
        }
        for symbol, ended in sorted(found.outcomes.items())
    ]
    return dg.MaterializeResult(
        metadata={
            **frame_metadata(found.landed),
            "gaps": done.gaps,
            "gaps_too_old": done.gaps_too_old,
            "refused": len(found.received.refusals),
            "known_before": found.received.bars.height - found.landed.height,
            "unfinished": found.unfinished,
            "outcomes": counts_table(outcomes),
        },
        check_results=[_answer(not found.missing, "; ".join(found.outcomes[name].reason for name in found.missing))],
    )


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
