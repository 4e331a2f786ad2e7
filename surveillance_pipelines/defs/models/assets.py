"""Assets of the training: training set and models. promotion.py registers, evaluates and promotes them."""

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from pydantic import Field

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.code_versions import PACKAGE, code_version
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.metadata import frame_metadata, inline_image, value_counts
from surveillance_pipelines.defs.models.build_folder import build_folder
from surveillance_pipelines.defs.models.checks import (
    TRAINING_CHECKS,
    model_asset,
    training_results,
    training_set_result,
)
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.models.kinds import KINDS

if TYPE_CHECKING:
    import polars as pl

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
    code_version=code_version("training.training_set"),
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
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.features.batch import with_history
    from surveillance_pipelines.training.training_set import build_training_set

    lake, version = platform.lake, platform.lake.version("bars_1m")
    first, last = _days_to_train(config, lake.days("bars_1m"))

    def read(since: date, until: date) -> "pl.DataFrame":
        return lake.read("bars_1m", days=(since, until), schema=BAR_SCHEMA, version=version)

    bars = with_history(read, first, last)
    built = build_training_set(
        bars,
        platform.session_table(min(bars["date"].to_list(), default=first), last),
        first=first,
        last=last,
        seed=config.seed,
        per_symbol_day=config.anomalies_per_symbol_day,
    )
    folder = build_folder(context, platform.settings)
    built.save(folder.training_set)
    folder.save_facts("data", {"bars_1m_delta_version": version, "fingerprint": built.fingerprint})
    return dg.MaterializeResult(
        metadata={
            **frame_metadata(built.frame),
            **value_counts("labels", built.frame["label"].drop_nulls().to_list()),
            **value_counts("splits", built.frame["split"].to_list()),
            "bars_1m_delta_version": version,
            "params": built.params,
        },
        check_results=[training_set_result(built, platform.settings)],
        data_version=dg.DataVersion(built.fingerprint[:16]),
    )


def _days_to_train(config: TrainingSetConfig, days: list[date]) -> tuple[date, date]:
    if not days:
        raise dg.Failure(
            "expected bars_1m to hold days to train on, found none: ingest bars and run market_data_job first"
        )
    first = date.fromisoformat(config.first_day) if config.first_day else days[0]
    last = date.fromisoformat(config.last_day) if config.last_day else days[-1]
    return first, last


@dg.multi_asset(
    name="train_models",
    specs=[
        dg.AssetSpec(
            model_asset(kind.name),
            deps=["training_set", *(model_asset(name) for name in kind.reads)],
            description=kind.description,
            kinds=set(kind.libraries),
            code_version=code_version("training.bundle_training", kind.trainer.removeprefix(f"{PACKAGE.name}.")),
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
    from surveillance_pipelines.training import bundle_training
    from surveillance_pipelines.training.deadline import Deadline
    from surveillance_pipelines.training.plots import training_figures
    from surveillance_pipelines.training.training_data import TrainingSet

    folder, clock = build_folder(context, platform.settings), platform.clock
    rows = TrainingSet.load(folder.require(folder.training_set))
    began = clock.now_us()
    trained = bundle_training.train_bundle(
        rows,
        seed=int(rows.params["seed"]),
        deadline=Deadline.after(platform.settings.model_training_max_duration_seconds, clock),
        progress=lambda stage, part: context.log.debug("%s: %.0f%%", stage, 100 * part),
    )
    bundle_hash = bundle_training.save_bundle(trained, folder.bundle)
    seconds = (clock.now_us() - began) / MICROSECONDS
    parameters = bundle_training.training_parameters(trained)
    folder.save_facts("training", {"seconds": seconds, "parameters": parameters})
    figures = training_figures(trained)
    folder.save_figures(figures)
    for name, member in trained.members.items():
        figure = f"{name}_importance" if f"{name}_importance" in figures else "losses"
        metadata = {
            "bundle_hash": bundle_hash,
            "model_id": member.spec.id,
            "seconds_for_all_models": round(seconds, 1),
            **member.facts,
            figure: inline_image(figures[figure], figure),
        }
        yield dg.MaterializeResult(asset_key=model_asset(name), metadata=metadata)
    yield from training_results(trained)
