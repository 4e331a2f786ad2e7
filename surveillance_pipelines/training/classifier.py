"""The anomaly classifier: is this bar ordinary, and if not, which kind of anomaly is it?"""

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
"""Square root of balance: rare kinds count more than their number, and an ordinary bar still costs something."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedClassifier:
    """The ensemble and the probability of an anomaly at which it alerts."""

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
    """Train on labelled bars; set the threshold on ordinary ones.

    Args:
        training: inputs float32[n, d + 1] (see ``scoring.classifier_inputs``) and labels.
        validation: the same of later days, for early stopping.
        ordinary: inputs of the validation days as they were, without planted anomalies.
        seed: of the subsampling.
        deadline: when to give up.
        config: size and pace.
        progress: told after each round.
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
