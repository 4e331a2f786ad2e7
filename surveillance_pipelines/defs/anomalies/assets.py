"""Assets of batch scoring: scores, anomalies, incidents and signals."""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg
from pydantic import Field

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.anomalies.charts import chart_of_highest_score
from surveillance_pipelines.defs.anomalies.checks import scores_result
from surveillance_pipelines.defs.anomalies.incidents import INCIDENT_MEANINGS, incident_metadata
from surveillance_pipelines.defs.anomalies.latest import latest_alerts, training_match
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.metadata import rows_metadata, stored_schema, value_counts
from surveillance_pipelines.defs.resources import PlatformResource

_VERSION: Final = code_version("services.scoring")
_COMMON: Final[dict[str, Any]] = {"owners": OWNERS, "code_version": _VERSION}


class ScoringConfig(dg.Config):
    """Configuration of batch scoring."""

    bundle_hash: str = Field(
        default="",
        description="Hash of a registered model bundle, or a prefix of at least 8 characters; `warmup` for the warm-up "
        "rules; empty for the champion. Scoring a served day again with the bundle that served it produces the same "
        "rows.",
    )


@dg.multi_asset(
    name="batch_scoring",
    specs=[
        dg.AssetSpec(
            "scores",
            deps=["features_core_v1", "features_core_v2", "champion"],
            description="Scores of every closed bar, from the champion or, before the first promotion, the warm-up "
            "rules.",
            group_name="anomalies",
            kinds={"onnx", "deltalake"},
            tags=tags("warehouse", "lake"),
            **_COMMON,
        ),
        dg.AssetSpec(
            "anomalies",
            deps=["scores", "market_queue"],
            description=(
                "Anomalies in PostgreSQL, from batch scoring and drain runs, with the same columns. Batch scoring "
                "writes the selected days. Equal inputs, models and settings produce equal ids, which prevents "
                "duplicates."
            ),
            group_name="anomalies",
            kinds={"onnx", "postgresql"},
            tags=tags("both", "postgresql"),
            **_COMMON,
        ),
        dg.AssetSpec(
            "incidents",
            deps=["anomalies", "market_queue"],
            description=(
                "Incidents in PostgreSQL: the alerts of one symbol that have one cause, with severity, evidence and "
                "what people decided about them. Written by batch scoring and drain runs, from their alerts. The page "
                "shows the newest ones, and pictures of the most severe ones."
            ),
            group_name="anomalies",
            kinds={"postgresql"},
            tags=tags("both", "postgresql"),
            **_COMMON,
        ),
        dg.AssetSpec(
            "signals",
            deps=["scores", "market_queue"],
            description="Direction signals of closed bars in PostgreSQL: BUY, SELL or HOLD with probabilities.",
            group_name="signals",
            kinds={"onnx", "postgresql"},
            tags=tags("both", "postgresql"),
            **_COMMON,
        ),
    ],
    partitions_def=DAYS,
    check_specs=[
        dg.AssetCheckSpec(
            "scores_are_finite",
            asset="scores",
            blocking=True,
            description="Every score and probability is a number from 0 to 1.",
        )
    ],
)
def batch_scoring(
    context: dg.AssetExecutionContext, config: ScoringConfig, platform: PlatformResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Score the features of a range of days, day by day, and store scores, anomalies, incidents and signals."""
    from surveillance_pipelines.batch.scoring import SCORES_SCHEMA
    from surveillance_pipelines.services.scoring import score_range

    first, last = days_of_run(context)
    done = score_range(platform, first, last, bundle=config.bundle_hash, run_id=context.run.run_id)
    found = done.found
    about_training = training_match(done)
    with platform.connect() as connection:
        schemas = {table: stored_schema(connection, table) for table in ("anomalies", "signals")}
        schemas["incidents"] = stored_schema(connection, "incidents", INCIDENT_MEANINGS)
        latest = latest_alerts(connection, platform.settings.tenant, first, last)
    about = {"bundle_hash": done.bundle_hash, "warmup": done.warmup, "bars_scored": found.rows}
    of_scores = rows_metadata(found.rows, SCORES_SCHEMA, days=found.days, symbols=found.bars_of, version=found.version)
    yield dg.MaterializeResult(asset_key="scores", metadata=of_scores | about | about_training)
    yield scores_result(found.out_of_range)
    yield dg.MaterializeResult(
        asset_key="anomalies",
        metadata={
            "dagster/partition_row_count": found.kinds.total(),
            "dagster/column_schema": schemas["anomalies"],
            "new_rows": found.stored.anomalies,
            **about,
            **latest,
            **about_training,
            **value_counts("kinds", found.kinds),
            **chart_of_highest_score(found.most_anomalous),
        },
    )
    yield dg.MaterializeResult(
        asset_key="incidents",
        metadata={
            "dagster/partition_row_count": found.incidents.total(),
            "dagster/column_schema": schemas["incidents"],
            "new_rows": found.stored.incidents,
            **about,
            **value_counts("severities", found.incidents),
            **incident_metadata(platform, first, last),
        },
    )
    yield dg.MaterializeResult(
        asset_key="signals",
        metadata={
            "dagster/partition_row_count": found.actions.total(),
            "dagster/column_schema": schemas["signals"],
            "new_rows": found.stored.signals,
            "new_predictions": found.stored.predictions,
            **about,
            **value_counts("actions", found.actions),
        },
    )
