"""Figures of merit, from class numbers and scores to one number each."""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

Classes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BOOTSTRAP_SAMPLES: Final = 500
CONTIGUOUS_BLOCKS: Final = 8
"""Where the data has fewer days than this, each day is cut into pieces: two days say nothing about their spread."""


def confusion_matrix(actual: Classes, called: Classes, classes: int) -> npt.NDArray[np.int64]:
    """Return counts int64[classes, classes], rows by actual class, columns by called class."""
    return np.bincount(actual * classes + called, minlength=classes * classes).reshape(classes, classes)


def accuracy(actual: Classes, called: Classes) -> float:
    """Return the part of rows called right; NaN without rows."""
    return float(np.mean(actual == called)) if len(actual) else float("nan")


def recalls(actual: Classes, called: Classes, classes: int) -> Floats:
    """Return, per class, the part of its rows called right, float64[classes]; NaN for a class without rows."""
    table = confusion_matrix(actual, called, classes)
    total = table.sum(axis=1)
    return np.divide(table.diagonal(), total, out=np.full(classes, np.nan), where=total > 0)


def balanced_accuracy(actual: Classes, called: Classes) -> float:
    """Return the mean recall over the classes that have rows: accuracy if all were equally frequent."""
    classes = int(max(actual.max(initial=0), called.max(initial=0))) + 1
    return float(np.nanmean(recalls(actual, called, classes))) if len(actual) else float("nan")


def side_accuracy(actual: Classes, called: Classes) -> float:
    """Return, where a direction (0 SELL, 2 BUY) was called and one came, the part of right sides; NaN without such."""
    both = (actual != 1) & (called != 1)
    return accuracy(actual[both], called[both])


def macro_f1(actual: Classes, called: Classes, classes: int) -> float:
    """Return the mean over the classes with rows of F1 = 2·right / (actual + called)."""
    table = confusion_matrix(actual, called, classes)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    present = rows > 0
    return (
        float(np.mean(2.0 * table.diagonal()[present] / (rows + columns)[present])) if present.any() else float("nan")
    )


def ranking_metrics(is_anomaly: npt.NDArray[np.bool_], score: Floats) -> dict[str, float]:
    """Return ``pr_auc`` (average precision) and ``roc_auc`` of a score; NaN where only one class is present."""
    if is_anomaly.all() or not is_anomaly.any():
        return {"pr_auc": float("nan"), "roc_auc": float("nan")}
    return {
        "pr_auc": float(average_precision_score(is_anomaly, score)),
        "roc_auc": float(roc_auc_score(is_anomaly, score)),
    }


def block_bootstrap_interval(
    measure: Callable[[npt.NDArray[np.intp]], float],
    blocks: npt.NDArray[np.generic],
    *,
    confidence: float = 0.95,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int,
) -> tuple[float, float]:
    """Return the percentile interval of a measure when whole blocks of rows are drawn anew.

    Rows of one block depend on each other (Künsch, "The jackknife and the bootstrap for general stationary
    observations", Annals of Statistics 1989).

    Args:
        measure: from row numbers to the figure.
        blocks: the block of each row, [n]; with fewer than ``CONTIGUOUS_BLOCKS`` of them, each is cut into equal runs.
        confidence: of the interval.
        samples: how often to draw.
        seed: of the draws.

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
