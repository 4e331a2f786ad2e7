"""The asset of the Yahoo fallback."""

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
            description="Yahoo returned bars for every watched symbol with missing bars.",
        )
    ],
)
def yahoo_bars(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Bars from Yahoo for sessions with missing bars of a watched symbol, appended to `bars_landed`.

    Without network or yfinance, no bars are added and the check warns; the run continues. With
    `FALLBACK_TO_YFINANCE=false`, no request is sent.
    """
    from surveillance_pipelines.services.yahoo_fallback import fill_gaps

    # A sensor requests a run because the queue is silent, so the last few minutes are also a gap.
    done = fill_gaps(platform, *days_of_run(context), to_the_minute=REASON_TAG in context.run.tags)
    found = done.ingestion
    if found is None:
        return _no_request(done.reason, passed=not done.degraded)
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
        check_results=[
            _check_result(not found.missing, "; ".join(found.outcomes[name].reason for name in found.missing))
        ],
    )


def _no_request(reason: str, *, passed: bool = True) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={"dagster/row_count": 0, "reason": reason}, check_results=[_check_result(passed=passed, reason=reason)]
    )


def _check_result(passed: bool, reason: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="yahoo_answers_for_every_gap",
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=reason or None,
    )
