"""The asset of prediction outcomes."""

from typing import Final

import dagster as dg

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import DAILY, OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.metadata import stored_schema, value_counts
from surveillance_pipelines.defs.resources import PlatformResource

_UNSETTLED_SHARE: Final = 0.2
"""Tolerated, because the last minutes of a session and of gaps in illiquid symbols have no later bar."""


@dg.asset(
    group_name="signals",
    kinds={"polars", "postgresql"},
    owners=OWNERS,
    partitions_def=DAYS,
    deps=["signals", "features_core_v1", "features_core_v2"],
    freshness_policy=DAILY,
    tags=tags("warehouse", "postgresql"),
    code_version=code_version("services.outcomes"),
    check_specs=[
        dg.AssetCheckSpec(
            "most_predictions_are_settled",
            asset="prediction_outcomes",
            description="At most a fifth of the predictions of past days have no outcome for lack of a later bar.",
        )
    ],
)
def prediction_outcomes(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Actual price move after each prediction, stored on its row when the horizon is over."""
    from surveillance_pipelines.services.outcomes import settle_days

    done = settle_days(platform, *days_of_run(context))
    with platform.connect() as connection:
        schema = stored_schema(connection, "predictions")
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": done.settled,
            "dagster/column_schema": schema,
            "bars_with_outcome": done.directions.total(),
            **value_counts("directions", done.directions),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="most_predictions_are_settled",
                passed=done.waiting <= _UNSETTLED_SHARE * done.predictions,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"waiting": done.waiting, "predictions": done.predictions},
            )
        ],
    )
