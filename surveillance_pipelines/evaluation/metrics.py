"""Evaluation metrics over class numbers and scores."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn import metrics

Classes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BOOTSTRAP_SAMPLES: Final = 500
CONTIGUOUS_BLOCKS: Final = 8
"""Minimum number of bootstrap blocks. With fewer days, each day is split, because two days do not show the variance."""


def confusion_matrix(actual: Classes, predicted: Classes, classes: int) -> npt.NDArray[np.int64]:
    """Return counts int64[classes, classes], rows by actual class, columns by predicted class."""
    return metrics.confusion_matrix(actual, predicted, labels=range(classes))


def accuracy(actual: Classes, predicted: Classes) -> float:
    """Return the share of correct predictions; NaN without rows."""
    return float(np.mean(actual == predicted)) if len(actual) else float("nan")


def recalls(actual: Classes, predicted: Classes, classes: int) -> Floats:
    """Return the recall of each class, float64[classes]; NaN for a class without rows."""
    # scikit-learn has no annotations, so pyright infers these types from the defaults.
    options: dict[str, Any] = {"average": None, "zero_division": np.nan}
    return np.asarray(metrics.recall_score(actual, predicted, labels=range(classes), **options))


def balanced_accuracy(actual: Classes, predicted: Classes) -> float:
    """Return the mean recall over the classes that have rows, NaN without rows.

    The bootstrap calls it thousands of times; scikit-learn's argument checks would make it over 100 times slower.
    """
    if not len(actual):
        return float("nan")
    classes = int(max(actual.max(), predicted.max())) + 1
    table = np.bincount(actual * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    rows = table.sum(axis=1)
    return float(np.nanmean(np.divide(table.diagonal(), rows, out=np.full(classes, np.nan), where=rows > 0)))


def side_accuracy(actual: Classes, predicted: Classes) -> float:
    """Return the share of correct sides among rows predicted and actually SELL or BUY (0, 2); NaN without such rows."""
    both = (actual != 1) & (predicted != 1)
    return accuracy(actual[both], predicted[both])


def macro_f1(actual: Classes, predicted: Classes) -> float:
    """Return the mean F1 over the classes with rows; NaN without rows."""
    if not len(actual):
        return float("nan")
    return float(metrics.f1_score(actual, predicted, labels=np.unique(actual), average="macro"))


def ranking_metrics(is_anomaly: npt.NDArray[np.bool_], score: Floats) -> dict[str, float]:
    """Return ``pr_auc`` (average precision) and ``roc_auc`` of a score; NaN if only one class is present."""
    if is_anomaly.all() or not is_anomaly.any():
        return {"pr_auc": float("nan"), "roc_auc": float("nan")}
    return {
        "pr_auc": float(metrics.average_precision_score(is_anomaly, score)),
        "roc_auc": float(metrics.roc_auc_score(is_anomaly, score)),
    }


def block_bootstrap_interval(
    measure: Callable[[npt.NDArray[np.intp]], float],
    blocks: npt.NDArray[np.generic],
    *,
    confidence: float = 0.95,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int,
) -> tuple[float, float]:
    """Return the percentile interval of a measure under resampling of whole blocks of rows.

    Rows of one block are dependent (Künsch, "The jackknife and the bootstrap for general stationary observations",
    Annals of Statistics 1989).

    Args:
        measure: computes the measure from row numbers.
        blocks: the block of each row, [n]; if there are fewer than ``CONTIGUOUS_BLOCKS``, each is split into equal
            runs.
        confidence: confidence level of the interval.
        samples: number of bootstrap samples.
        seed: seed of the resampling.

    Returns:
        lower and upper bound; NaN without rows.
    """
    if len(blocks) == 0:
        return float("nan"), float("nan")
    groups = _groups(blocks)
    random = np.random.default_rng(seed)
    drawn = [
        measure(np.concatenate([groups[k] for k in random.integers(0, len(groups), len(groups))]))
        for _ in range(samples)
    ]
    tail = (1.0 - confidence) / 2.0
    return float(np.nanquantile(drawn, tail)), float(np.nanquantile(drawn, 1.0 - tail))


def _groups(blocks: npt.NDArray[np.generic]) -> list[npt.NDArray[np.intp]]:
    _, number = np.unique(blocks, return_inverse=True)
    order = np.argsort(number, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    pieces = -(-CONTIGUOUS_BLOCKS // len(groups))
    return [piece for group in groups for piece in np.array_split(group, pieces) if len(piece)]
