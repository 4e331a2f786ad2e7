"""The anomaly classifier: predicts whether a bar is ordinary, or its kind of anomaly."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.errors import TooLittleDataError
from surveillance_pipelines.evaluation.thresholds import budget_threshold
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.hashing import sha256_bytes
from surveillance_pipelines.models.arrays import as_float32
from surveillance_pipelines.models.classifier import MODEL_FILE
from surveillance_pipelines.models.contract import InputSpec, OutputSpec
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
from surveillance_pipelines.training.training_data import Split, TrainingSet, class_numbers

DEFAULT: Final = BoostingConfig()

VERSION: Final = "1.0"
"""Version of the trained model; change it with the architecture or the inputs."""

WEIGHT_POWER: Final = 0.5
"""Square-root class balancing: rare kinds get more weight than their frequency, and ordinary bars keep some weight."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedClassifier:
    """The ensemble and its alert threshold, a probability of an anomaly."""

    model: TrainedBooster
    threshold: float


def train(context: MemberContext) -> TrainedMember:
    """Train on labelled bars, with the autoencoder's error as an additional column, and export the trees."""
    rows, columns = context.training_set, context.training_set.feature_view.model_columns
    autoencoder = context.earlier["autoencoder"]

    def inputs(frame: pl.DataFrame) -> npt.NDArray[np.float32]:
        values = feature_matrix(frame, columns)
        return as_float32(np.column_stack([values, autoencoder.statistic(values)]))

    def labelled(split: Split) -> tuple[npt.NDArray[np.float32], pl.Series]:
        frame = rows.rows(split, labelled=True)
        return inputs(frame), frame["label"]

    _require_examples(rows)
    ordinary = inputs(rows.rows("validation", labelled=True, original=True))
    trained = train_classifier(
        labelled("train"),
        labelled("validation"),
        labels=rows.labels,
        ordinary=ordinary,
        seed=context.seed,
        deadline=context.deadline,
        config=context.config or DEFAULT,
        progress=context.progress,
    )
    content = booster_to_onnx(trained.model.booster, len(columns) + 1, "market_classifier")
    sample = ordinary[:: max(1, len(ordinary) // PARITY_ROWS)]
    difference = require_parity(content, sample, predict(trained.model, sample), "classifier")
    return TrainedMember(
        spec=MemberSpec(
            name="classifier",
            kind="classifier",
            version=VERSION,
            files=(MODEL_FILE,),
            file_hashes=(sha256_bytes(content),),
            input=InputSpec(rows.view, (*columns, f"autoencoder.{autoencoder.spec.output.statistic}")),
            output=OutputSpec("anomaly_kind", labels=rows.labels),
            calibration={"rule": "threshold", "threshold": trained.threshold},
        ),
        files={MODEL_FILE: content},
        native=trained,
        facts={"rounds": trained.model.rounds, "parity": difference},
        checks=(TrainingCheck("export_is_exact", True, {"largest_difference": difference}),),  # noqa: FBT003 (a difference above the limit raises)
        loss_unit="round",
        curves={"validation": trained.model.validation_loss},
        importance=trained.model.importance,
    )


def train_classifier(
    training: tuple[npt.NDArray[np.float32], pl.Series],
    validation: tuple[npt.NDArray[np.float32], pl.Series],
    *,
    labels: tuple[str, ...],
    ordinary: npt.NDArray[np.float32],
    seed: int,
    deadline: Deadline,
    config: BoostingConfig = DEFAULT,
    progress: Progress = no_progress,
) -> TrainedClassifier:
    """Train on labelled bars and set the threshold on ordinary ones.

    Args:
        training: inputs float32[n, d + 1]: raw features and the autoencoder's error; and labels.
        validation: inputs and labels of later days, for early stopping.
        labels: the classes, ``normal`` first.
        ordinary: inputs of the unchanged validation days, without planted anomalies.
        seed: seed of the subsampling.
        deadline: end of the training.
        config: size and learning parameters.
        progress: called after each round.
    """
    model = train_booster(
        _weighted(*training, labels),
        _weighted(*validation, labels),
        classes=len(labels),
        config=config,
        seed=seed,
        deadline=deadline,
        progress=progress,
        stage="classifier",
    )
    return TrainedClassifier(model, budget_threshold(1.0 - predict(model, ordinary)[:, 0]))


def _require_examples(rows: TrainingSet) -> None:
    found = set(rows.rows("train", labelled=True)["label"])
    if missing := [label for label in rows.labels if label not in found]:
        raise TooLittleDataError(
            f"expected training bars of {', '.join(rows.labels)}, got none of {', '.join(missing)}: too few anomalies "
            "fit into the training days"
        )


def _weighted(inputs: npt.NDArray[np.float32], rows: pl.Series, labels: tuple[str, ...]) -> LabelledRows:
    numbers = class_numbers(rows, labels)
    return LabelledRows(inputs, numbers, balanced_weights(numbers, len(labels), power=WEIGHT_POWER))
