"""Scores of every closed bar, and the anomalies and signals among them."""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg
from pydantic import Field

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.anomalies.checks import scores_result
from surveillance_pipelines.defs.anomalies.pictures import worst_bar
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.metadata import rows_metadata, stored_schema, value_counts
from surveillance_pipelines.defs.resources import PlatformResource

_VERSION: Final = code_version("services.scoring")
_COMMON: Final[dict[str, Any]] = {"owners": OWNERS, "code_version": _VERSION}


class ScoringConfig(dg.Config):
    """Which models score."""

    bundle_hash: str = Field(
        default="",
        description="Hash of a model bundle on record, or its first 8 characters or more; `warmup` for the warm-up "
        "rules; empty for the champion. Served days scored with the bundle that served them give the rows that they "
        "have.",
    )


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
    context: dg.AssetExecutionContext, config: ScoringConfig, platform: PlatformResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Score the features of a range of days, one day after the other, and keep what stands out."""
    from surveillance_pipelines.batch.scoring import SCORES_SCHEMA
    from surveillance_pipelines.services.scoring import score_range

    done = score_range(platform, *days_of_run(context), bundle=config.bundle_hash, run_id=context.run.run_id)
    found = done.found
    with platform.connect() as connection:
        schemas = {table: stored_schema(connection, table) for table in ("anomalies", "signals")}
    about = {"bundle_hash": done.bundle_hash, "warmup": done.warmup, "bars_scored": found.rows}
    of_scores = rows_metadata(found.rows, SCORES_SCHEMA, days=found.days, symbols=found.symbols, version=found.version)
    yield dg.MaterializeResult(asset_key="scores", metadata=of_scores | about)
    yield scores_result(found.out_of_range)
    yield dg.MaterializeResult(
        asset_key="anomalies",
        metadata={
            "dagster/partition_row_count": found.kinds.total(),
            "dagster/column_schema": schemas["anomalies"],
            "new_rows": found.stored.anomalies,
            **about,
            **value_counts("kinds", found.kinds),
            **worst_bar(found.most_anomalous),
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
