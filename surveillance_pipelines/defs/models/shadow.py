"""The asset of the shadow: the scores of a bundle that serves nothing."""

from typing import Final

import dagster as dg

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.metadata import counts_table, rows_metadata
from surveillance_pipelines.defs.resources import PlatformResource

SHOWN: Final = 50
"""Disagreements that the table lists."""


@dg.asset(
    group_name="models",
    owners=OWNERS,
    kinds={"onnx", "deltalake"},
    deps=["features_core_v1", "features_core_v2", "champion"],
    partitions_def=DAYS,
    tags=tags("warehouse", "lake"),
    code_version=code_version("services.shadow"),
    check_specs=[
        dg.AssetCheckSpec(
            "shadow_keeps_the_alert_budget",
            asset="shadow_scores",
            description="On the served bars, the shadow raises no more alerts per symbol and day than the budget, or "
            "than the champion.",
        )
    ],
)
def shadow_scores(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Scores of the served bars by the shadow, which publishes nothing, compared with the champion's alerts."""
    from surveillance_pipelines.batch.scoring import SCORES_SCHEMA
    from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY
    from surveillance_pipelines.services.shadow import score_shadow

    first, last = days_of_run(context)
    done = score_shadow(platform, first, last, run_id=context.run.run_id)
    if done is None:
        return dg.MaterializeResult(metadata={"shadow": "none"}, check_results=[_result(passed=True, text="no shadow")])
    found = done.comparison
    limit = max(ALERTS_PER_SYMBOL_DAY, found.champion_alerts_per_day)
    text = f"{found.shadow_alerts_per_day:.2f} alerts per symbol and 390 bars, limit {limit:.2f}"
    rows = [
        {**row, "bar_start": row["bar_start"].isoformat()}
        for row in found.disagreements.head(SHOWN).with_columns(_rounded()).iter_rows(named=True)
    ]
    return dg.MaterializeResult(
        metadata={
            **rows_metadata(found.bars, SCORES_SCHEMA, days=list(done.days), version=done.version),
            "shadow": done.shadow,
            "champion": done.champion,
            "shadow_alerts_per_symbol_day": round(found.shadow_alerts_per_day, 3),
            "champion_alerts_per_symbol_day": round(found.champion_alerts_per_day, 3),
            "agreement": round(found.agreement, 4),
            "alerts_of_both": found.both,
            "alerts_of_champion_only": found.only_champion,
            "alerts_of_shadow_only": found.only_shadow,
            **({"disagreements": counts_table(rows)} if rows else {}),
        },
        check_results=[_result(passed=found.shadow_alerts_per_day <= limit, text=text)],
    )


def _result(*, passed: bool, text: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name="shadow_keeps_the_alert_budget", passed=passed, severity=dg.AssetCheckSeverity.WARN, description=text
    )


def _rounded() -> list[object]:
    import polars as pl

    return [pl.col(name).round(4) for name in ("champion_score", "shadow_score")]
