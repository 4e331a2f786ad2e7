"""Scores of every closed bar, and the anomalies and signals among them."""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

from surveillance_pipelines.defs.anomalies.checks import scores_result
from surveillance_pipelines.defs.anomalies.pictures import worst_bar
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.code_versions import code_version
from surveillance_pipelines.defs.metadata import frame_metadata, stored_schema, value_counts
from surveillance_pipelines.defs.resources import PlatformResource

_VERSION: Final = code_version(
    "serving/batch.py",
    "serving/scoring_rows.py",
    "serving/signal_gate.py",
    "models/scoring.py",
    "strategies/warmup.py",
    "strategies/momentum.py",
)
_COMMON: Final[dict[str, Any]] = {"owners": OWNERS, "code_version": _VERSION}


@dg.multi_asset(
    name="batch_scoring",
    specs=[
        dg.AssetSpec(
            "scores",
            deps=["features_core_v1", "champion"],
            description="What the champion (or, before there is one, the warm-up rules) says of every closed bar.",
            group_name="anomalies",
            kinds={"onnx", "deltalake"},
            tags=tags("warehouse", "lake"),
            **_COMMON,
        ),
        dg.AssetSpec(
            "anomalies",
            deps=["scores", "market_queue"],
            description=(
                "Bars that look wrong, in PostgreSQL, one row contract for batch and live. Batch scoring writes the "
                "days it is asked for; the drain run writes as it serves. Equal rows have equal ids."
            ),
            group_name="anomalies",
            kinds={"onnx", "postgresql"},
            tags=tags("both", "postgresql"),
            **_COMMON,
        ),
        dg.AssetSpec(
            "signals",
            deps=["scores", "market_queue"],
            description="Direction calls on closed bars, in PostgreSQL: BUY, SELL or HOLD with probabilities.",
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
            description="Every score is a number from 0 to 1, and every probability too.",
        )
    ],
)
def batch_scoring(
    context: dg.AssetExecutionContext, platform: PlatformResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Score the features of a range of days, and keep what stands out."""
    from surveillance_pipelines.features.batch import feature_schema
    from surveillance_pipelines.serving.batch import score_day
    from surveillance_pipelines.serving.batch_store import last_signals, store_scores
    from surveillance_pipelines.serving.models import load_scorer
    from surveillance_pipelines.serving.scoring_rows import row_config

    first, last = days_of_run(context)
    features = platform.lake.read("features_core_v1", days=(first, last), schema=feature_schema())
    with platform.connect() as connection:
        scorer = load_scorer(connection, platform.settings)
        scored = score_day(
            features.sort("symbol", "bar_start"),
            scorer,
            row_config(platform.settings, scorer, run_id=context.run.run_id),
            last_signals=last_signals(connection, first, scorer.bundle_hash),
            sessions=platform.session_table(first, last),
        )
        stored = store_scores(connection, scored)
        schemas = {table: stored_schema(connection, table) for table in ("anomalies", "signals")}
    version = platform.replace_days("scores", scored.scores, first, last)
    about = {"bundle_hash": scorer.bundle_hash, "warmup": scorer.warmup, "bars_scored": scored.scores.height}
    yield dg.MaterializeResult(asset_key="scores", metadata=frame_metadata(scored.scores, version=version) | about)
    yield scores_result(scored.scores)
    yield dg.MaterializeResult(
        asset_key="anomalies",
        metadata={
            "dagster/partition_row_count": len(scored.anomalies),
            "dagster/column_schema": schemas["anomalies"],
            "new_rows": stored.anomalies,
            **about,
            **value_counts("kinds", [row.kind for row in scored.anomalies]),
            **worst_bar(scored),
        },
    )
    yield dg.MaterializeResult(
        asset_key="signals",
        metadata={
            "dagster/partition_row_count": len(scored.signals),
            "dagster/column_schema": schemas["signals"],
            "new_rows": stored.signals,
            "new_predictions": stored.predictions,
            **about,
            **value_counts("actions", [row.action for row in scored.signals]),
        },
    )
