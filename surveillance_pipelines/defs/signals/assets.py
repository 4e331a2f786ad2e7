"""What became of the calls."""

from collections import Counter
from datetime import timedelta
from typing import Final

import dagster as dg

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import DAILY, OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run, days_within
from surveillance_pipelines.defs.metadata import stored_schema, value_counts
from surveillance_pipelines.defs.resources import PlatformResource

_UNSETTLED_SHARE: Final = 0.2
"""The last minutes of a session have no later bar; thin symbols have such minutes all day."""


@dg.asset(
    group_name="signals",
    kinds={"polars", "postgresql"},
    owners=OWNERS,
    partitions_def=DAYS,
    deps=["signals", "features_core_v1"],
    freshness_policy=DAILY,
    tags=tags("warehouse", "postgresql"),
    code_version=code_version("evaluation.outcomes", "features.batch", "stores.predictions"),
    check_specs=[
        dg.AssetCheckSpec(
            "most_predictions_are_settled",
            asset="prediction_outcomes",
            description="At most a fifth of the predictions of past days lack an outcome for want of a later bar.",
        )
    ],
)
def prediction_outcomes(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """The move that followed each prediction, written onto its row once its horizon is over."""
    from surveillance_pipelines.evaluation.direction_labels import HORIZON_MINUTES
    from surveillance_pipelines.evaluation.outcomes import outcomes
    from surveillance_pipelines.features.batch import feature_schema
    from surveillance_pipelines.stores.predictions import open_predictions, settle

    first, last = days_of_run(context)
    columns = ["symbol", "date", "bar_start", "close", "realised_volatility"]
    settled, directions = 0, Counter[str]()
    with platform.connect() as connection:
        for day in days_within(platform.lake.days("features_core_v1"), first, last):
            features = platform.lake.read("features_core_v1", days=[day], columns=columns, schema=feature_schema())
            known = outcomes(features)
            settled += settle(connection, known, horizon_minutes=HORIZON_MINUTES)
            connection.commit()
            directions.update(known["outcome_direction"])
        waiting, total = open_predictions(connection, first, min(last, platform.today() - timedelta(days=1)))
        schema = stored_schema(connection, "predictions")
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": settled,
            "dagster/column_schema": schema,
            "bars_with_outcome": directions.total(),
            **value_counts("directions", directions),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="most_predictions_are_settled",
                passed=waiting <= _UNSETTLED_SHARE * total,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"waiting": waiting, "predictions": total},
            )
        ],
    )
