"""Assets of the training: training set and models. promotion.py registers, evaluates and promotes them."""

from collections.abc import Iterator
from datetime import date
from typing import Any, Final

import dagster as dg
from pydantic import Field

from surveillance_pipelines.code_versions import PACKAGE, code_version
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.metadata import frame_metadata, inline_image, value_counts
from surveillance_pipelines.defs.models.checks import (
    TRAINING_CHECKS,
    model_asset,
    training_results,
    training_set_result,
)
from surveillance_pipelines.defs.models.folder_of_run import build_folder
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.models.kinds import KINDS

POOL: Final = "training"
"""Pool with one slot (dagster.yaml), so that trainings do not run in parallel."""

COMMON: Final[dict[str, Any]] = {"group_name": "models", "owners": OWNERS}


class TrainingSetConfig(dg.Config):
    """Configuration of the training set: its days and planted anomalies."""

    first_day: str = Field(default="", description="First UTC day, YYYY-MM-DD; empty for the oldest.")
    last_day: str = Field(default="", description="Last UTC day, YYYY-MM-DD; empty for the newest.")
    seed: int = Field(default=7, description="Seed of the planted anomalies and of the training.")
    anomalies_per_symbol_day: float = Field(
        default=12.0, gt=0, description="Planted anomalies per symbol and day, over all copies of the bars."
    )


@dg.asset(
    **COMMON,
    kinds={"polars", "parquet"},
    deps=["bars_1m", "trading_sessions"],
    pool=POOL,
    tags=tags("training", "models"),
    code_version=code_version("services.training_set"),
    check_specs=[
        dg.AssetCheckSpec(
            "training_rows_are_enough",
            asset="training_set",
            blocking=True,
            description="The training split has at least MODEL_TRAINING_MIN_DATASET_SIZE labelled rows.",
        )
    ],
)
def training_set(
    context: dg.AssetExecutionContext, config: TrainingSetConfig, platform: PlatformResource
) -> dg.MaterializeResult:
    """Feature rows of bars and of copies with planted anomalies, split by time with purged gaps between the splits."""
    from surveillance_pipelines.services.training_set import build_rows

    built = build_rows(
        platform,
        build_folder(context, platform.settings),
        first=date.fromisoformat(config.first_day) if config.first_day else None,
        last=date.fromisoformat(config.last_day) if config.last_day else None,
        seed=config.seed,
        per_symbol_day=config.anomalies_per_symbol_day,
    )
    rows = built.rows
    return dg.MaterializeResult(
        metadata={
            **frame_metadata(rows.frame),
            **value_counts("labels", rows.frame["label"].drop_nulls().to_list()),
            **value_counts("splits", rows.frame["split"].to_list()),
            "bars_1m_delta_version": built.bars_version,
            "params": rows.params,
        },
        check_results=[training_set_result(rows, platform.settings)],
        data_version=dg.DataVersion(rows.fingerprint[:16]),
    )


@dg.multi_asset(
    name="train_models",
    specs=[
        dg.AssetSpec(
            model_asset(kind.name),
            deps=["training_set", *(model_asset(name) for name in kind.reads)],
            description=kind.description,
            kinds=set(kind.libraries),
            code_version=code_version("services.training", kind.trainer.removeprefix(f"{PACKAGE.name}.")),
            tags=tags("training", "models"),
            **COMMON,
        )
        for kind in KINDS.values()
    ],
    check_specs=TRAINING_CHECKS,
    pool=POOL,
)
def train_models(
    context: dg.AssetExecutionContext, platform: PlatformResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Train one model of every kind and save them as a bundle."""
    from surveillance_pipelines.services.training import train_members

    done = train_members(
        platform,
        build_folder(context, platform.settings),
        progress=lambda stage, part: context.log.debug("%s: %.0f%%", stage, 100 * part),
    )
    for name, member in done.bundle.members.items():
        own = [figure for figure in done.figures if figure.startswith(f"{name}_")]
        figures = own or (["losses"] if member.curves else [])
        metadata = {
            "bundle_hash": done.bundle_hash,
            "model_id": member.spec.id,
            "seconds_for_all_models": round(done.seconds, 1),
            **member.facts,
            **{figure: inline_image(done.figures[figure], figure) for figure in figures},
        }
        yield dg.MaterializeResult(asset_key=model_asset(name), metadata=metadata)
    yield from training_results(done.bundle)
