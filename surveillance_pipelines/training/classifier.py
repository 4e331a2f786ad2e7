"""The anomaly classifier: predicts whether a bar is ordinary, or its kind of anomaly."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.evaluation.thresholds import budget_threshold
from surveillance_pipelines.training.boosting import (
    BoostingConfig,
    LabelledRows,
    TrainedBooster,
    balanced_weights,
    predict,
    train_booster,
)
from surveillance_pipelines.training.deadline import Deadline, Progress, no_progress
from surveillance_pipelines.training.training_data import LABELS, class_numbers

DEFAULT: Final = BoostingConfig()

WEIGHT_POWER: Final = 0.5
"""Square-root class balancing: rare kinds get more weight than their frequency, and ordinary bars keep some weight."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedClassifier:
    """The ensemble and its alert threshold, a probability of an anomaly."""

    model: TrainedBooster
    threshold: float


def train_classifier(
    training: tuple[npt.NDArray[np.float32], pl.Series],
    validation: tuple[npt.NDArray[np.float32], pl.Series],
    *,
    ordinary: npt.NDArray[np.float32],
    seed: int,
    deadline: Deadline,
    config: BoostingConfig = DEFAULT,
    progress: Progress = no_progress,
) -> TrainedClassifier:
    """Train on labelled bars and set the threshold on ordinary ones.

    Args:
        training: inputs float32[n, d + 1] (see ``scoring.classifier_inputs``) and labels.
        validation: inputs and labels of later days, for early stopping.
        ordinary: inputs of the unchanged validation days, without planted anomalies.
        seed: seed of the subsampling.
        deadline: end of the training.
        config: size and learning parameters.
        progress: called after each round.
    """
    model = train_booster(
        _weighted(*training),
        _weighted(*validation),
        classes=len(LABELS),
        config=config,
        seed=seed,
        deadline=deadline,
        progress=progress,
        stage="classifier",
    )
    return TrainedClassifier(model, budget_threshold(1.0 - predict(model, ordinary)[:, 0]))


def _weighted(inputs: npt.NDArray[np.float32], labels: pl.Series) -> LabelledRows:
    numbers = class_numbers(labels)
    return LabelledRows(inputs, numbers, balanced_weights(numbers, len(LABELS), power=WEIGHT_POWER))
