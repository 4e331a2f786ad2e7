"""Training of both XGBoost models: deterministic rounds under a deadline, with early stopping on validation rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xgboost
from xgboost.callback import TrainingCallback

from surveillance_pipelines.contracts.errors import TooLittleDataError
from surveillance_pipelines.training.deadline import Deadline, Progress

Inputs = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

THREADS: Final = 1
"""Number of threads. It is fixed because the split of rows among threads determines the order in which gradients are
added. It is one because OpenMP threads spin while they wait: on a busy two-core machine, two threads took ten times as
long as one."""


MAX_BIN: Final = 128
"""Candidate split points per column: half of XGBoost's default, for 25% less training time at the same accuracy."""


@dataclass(frozen=True, slots=True)
class BoostingConfig:
    """Size and learning parameters of a boosted ensemble.

    Attributes:
        rounds: maximum number of rounds, with one tree per class each.
        patience: number of rounds without a better validation loss after which training stops.
        depth: maximum depth of a tree.
        learning_rate: shrinkage per round.
        min_child_weight: minimum weight of a leaf.
        subsample: share of the rows used for a tree.
        column_sample: share of the columns used for a tree.
        regularisation: L2 penalty on leaf values.
    """

    rounds: int = 150
    patience: int = 10
    depth: int = 6
    learning_rate: float = 0.15
    min_child_weight: float = 2.0
    subsample: float = 0.8
    column_sample: float = 0.7
    regularisation: float = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """Inputs float32[n, d] with NaN where missing, class numbers int64[n], weights float64[n]."""

    inputs: Inputs
    labels: Labels
    weights: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedBooster:
    """A multiclass ensemble, truncated to its best round.

    Attributes:
        booster: the native model, used for the parity check.
        classes: number of classes.
        rounds: number of rounds kept.
        validation_loss: log loss of each round, including rounds not kept.
        importance: total gain per input column, float64[d], sums to 1.
    """

    booster: xgboost.Booster
    classes: int
    rounds: int
    validation_loss: tuple[float, ...]
    importance: npt.NDArray[np.float64]


def train_booster(
    training: LabelledRows,
    validation: LabelledRows,
    *,
    classes: int,
    config: BoostingConfig,
    seed: int,
    deadline: Deadline,
    progress: Progress,
    stage: str,
) -> TrainedBooster:
    """Train a softmax ensemble.

    Raises:
        TrainingTimeout: if the deadline has passed at the end of a round.
        ValueError: if a class has no training row.
    """
    _require_classes(training.labels, classes, stage)
    matrix = _matrix(training)
    check = _matrix(validation, matrix)
    results: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        _parameters(config, classes, seed),
        matrix,
        num_boost_round=config.rounds,
        evals=[(check, "validation")],
        evals_result=results,
        early_stopping_rounds=config.patience,
        verbose_eval=False,
        callbacks=[_TrainingMonitor(deadline, progress, stage, config.rounds)],
    )
    rounds = booster.best_iteration + 1
    best = booster[:rounds]
    return TrainedBooster(
        booster=best,
        classes=classes,
        rounds=rounds,
        validation_loss=tuple(results["validation"]["mlogloss"]),
        importance=_importance(best, training.inputs.shape[1]),
    )


def predict(trained: TrainedBooster, inputs: Inputs) -> npt.NDArray[np.float64]:
    """Return the native model's probabilities, float64[n, classes]."""
    if len(inputs) == 0:
        return np.empty((0, trained.classes))  # XGBoost warns and returns one dimension
    return trained.booster.predict(xgboost.DMatrix(inputs, nthread=THREADS)).astype(np.float64)


def balanced_weights(labels: Labels, classes: int, *, power: float = 1.0) -> npt.NDArray[np.float64]:
    """Return weights ``(n / (classes · count of the row's class)) ** power``; power 1 weights all classes equally."""
    counts = np.bincount(labels, minlength=classes)
    return ((len(labels) / (classes * np.maximum(counts, 1))) ** power)[labels]


def _matrix(rows: LabelledRows, reference: xgboost.QuantileDMatrix | None = None) -> xgboost.QuantileDMatrix:
    return xgboost.QuantileDMatrix(
        rows.inputs, rows.labels, weight=rows.weights, ref=reference, max_bin=MAX_BIN, nthread=THREADS
    )


def _require_classes(labels: Labels, classes: int, stage: str) -> None:
    counts = np.bincount(labels, minlength=classes)
    if (counts == 0).any():
        raise TooLittleDataError(
            f"expected training rows of every class of the {stage} model, got counts {counts.tolist()}"
        )


def _parameters(config: BoostingConfig, classes: int, seed: int) -> Mapping[str, Any]:
    return {
        "objective": "multi:softprob",
        "num_class": classes,
        "eval_metric": "mlogloss",
        "tree_method": "hist",
        "max_bin": MAX_BIN,
        "max_depth": config.depth,
        "eta": config.learning_rate,
        "min_child_weight": config.min_child_weight,
        "subsample": config.subsample,
        "colsample_bytree": config.column_sample,
        "lambda": config.regularisation,
        "seed": seed,
        "nthread": THREADS,
    }


def _importance(booster: xgboost.Booster, columns: int) -> npt.NDArray[np.float64]:
    gain = booster.get_score(importance_type="total_gain")
    values = np.array([float(gain.get(f"f{i}", 0.0)) for i in range(columns)])  # type: ignore[arg-type]
    return values / max(values.sum(), 1e-300)


class _TrainingMonitor(TrainingCallback):
    """Stops at the deadline and reports progress."""

    def __init__(self, deadline: Deadline, progress: Progress, stage: str, rounds: int) -> None:
        super().__init__()
        self._deadline, self._progress, self._stage, self._rounds = deadline, progress, stage, rounds

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
        self._deadline.check(f"{epoch + 1} rounds of the {self._stage} model")
        self._progress(self._stage, (epoch + 1) / self._rounds)
        return False
