"""The direction model: predicts SELL, HOLD or BUY for the next minutes; HOLD is a move that does not cover costs."""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.predictions import DIRECTIONS
from surveillance_pipelines.evaluation.direction_labels import HORIZON_MINUTES, direction_labels
from surveillance_pipelines.evaluation.gate import GateDecision, direction_gate
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.hashing import sha256_bytes
from surveillance_pipelines.models.arrays import as_float32
from surveillance_pipelines.models.contract import InputSpec, OutputSpec
from surveillance_pipelines.models.direction import MODEL_FILE
from surveillance_pipelines.models.members import MemberSpec
from surveillance_pipelines.training.boosting import (
    BoostingConfig,
    LabelledRows,
    TrainedBooster,
    balanced_weights,
    predict,
    train_booster,
)
from surveillance_pipelines.training.deadline import Deadline, Progress, no_progress
from surveillance_pipelines.training.export import PARITY_ROWS, booster_to_onnx, require_parity
from surveillance_pipelines.training.member import MemberContext, TrainedMember, TrainingCheck
from surveillance_pipelines.training.training_data import Split, TrainingSet

Inputs = npt.NDArray[np.float32]

VERSION: Final = "1.0"
"""Version of the trained model; change it with the architecture or the inputs."""

DEFAULT: Final = BoostingConfig(rounds=80, depth=4, learning_rate=0.08, min_child_weight=50.0, regularisation=10.0)


def train(context: MemberContext) -> TrainedMember:
    """Train on bars with a known forward return, evaluate the gate on the test days, and export the trees.

    A model that does not pass its gate is kept in the bundle but does not serve.
    """
    rows, columns = context.training_set, context.training_set.feature_view.model_columns
    training, validation = (direction_rows(rows, split)[:2] for split in ("train", "validation"))
    trained = train_direction(
        training,
        validation,
        seed=context.seed,
        deadline=context.deadline,
        config=context.config or DEFAULT,
        progress=context.progress,
    )
    content = booster_to_onnx(trained.booster, len(columns), "market_direction")
    sample = validation[0][:: max(1, len(validation[0]) // PARITY_ROWS)]
    difference = require_parity(content, sample, predict(trained, sample), "direction model")
    gate = _evaluate_gate(rows, trained, context.seed)
    return TrainedMember(
        spec=MemberSpec(
            name="direction",
            kind="direction",
            version=VERSION,
            files=(MODEL_FILE,),
            file_hashes=(sha256_bytes(content),),
            input=InputSpec(rows.view, columns),
            output=OutputSpec("direction", labels=DIRECTIONS, horizons_minutes=(HORIZON_MINUTES,)),
            serves=gate.passed,
            reasons=gate.reasons,
        ),
        files={MODEL_FILE: content},
        native=trained,
        facts={"rounds": trained.rounds, "parity": difference},
        checks=(TrainingCheck("export_is_exact", True, {"largest_difference": difference}),),  # noqa: FBT003 (a difference above the limit raises)
        loss_unit="round",
        curves={"validation": trained.validation_loss},
        importance=trained.importance,
        gate=gate,
    )


def direction_rows(training_set: TrainingSet, split: Split) -> tuple[Inputs, npt.NDArray[np.int64], pl.DataFrame]:
    """Return the model's inputs float32[n, d], class numbers int64[n], and the corresponding rows."""
    rows = training_set.rows(split, labelled=True, original=True).with_columns(
        direction=direction_labels(pl.col("forward_return"), pl.col("realised_volatility"))
    )
    rows = rows.filter(pl.col("direction").is_not_null())
    inputs = as_float32(feature_matrix(rows, training_set.feature_view.model_columns))
    return inputs, rows["direction"].to_numpy(), rows


def _evaluate_gate(training_set: TrainingSet, trained: TrainedBooster, seed: int) -> GateDecision:
    inputs, labels, rows = direction_rows(training_set, "test")
    predicted = predict(trained, inputs).argmax(axis=1)
    return direction_gate(labels, predicted, rows["date"].to_numpy(), classes=len(DIRECTIONS), seed=seed)


def train_direction(
    training: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
    validation: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
    *,
    seed: int,
    deadline: Deadline,
    config: BoostingConfig = DEFAULT,
    progress: Progress = no_progress,
) -> TrainedBooster:
    """Train on inputs float32[n, d] (raw model columns) and class numbers int64[n], classes weighted equally."""
    return train_booster(
        _balanced(*training),
        _balanced(*validation),
        classes=len(DIRECTIONS),
        config=config,
        seed=seed,
        deadline=deadline,
        progress=progress,
        stage="direction",
    )


def _balanced(inputs: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> LabelledRows:
    return LabelledRows(inputs, labels, balanced_weights(labels, len(DIRECTIONS)))
