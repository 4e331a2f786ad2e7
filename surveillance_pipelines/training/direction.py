"""The direction model: SELL, HOLD or BUY for the next minutes, where HOLD is a move that does not cover its costs."""

from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.models.scoring import DIRECTIONS
from surveillance_pipelines.training.boosting import (
    BoostingConfig,
    LabelledRows,
    TrainedBooster,
    balanced_weights,
    train_booster,
)
from surveillance_pipelines.training.deadline import Deadline, Progress, no_progress

DEFAULT: Final = BoostingConfig(rounds=80, depth=4, learning_rate=0.08, min_child_weight=50.0, regularisation=10.0)


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
