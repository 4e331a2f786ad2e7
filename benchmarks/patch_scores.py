"""Detectors of windows and points of a series with several channels. Each learns from the first rows alone."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest

from surveillance_pipelines.training.patch_encoder import PatchEncoder, patches_of

Floats = npt.NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""Values float64[n, channels] in, float64[n] out; larger is more anomalous."""

WINDOW: Final = 64
SHIFTS: Final = (5, 15, 30)
LOOKBACK: Final = 256
"""Points before the scored one for a rolling median."""
_SEED: Final = 1
_MAD: Final = 1.4826
_FLAT: Final = 1e-9
_BLOCK: Final = 4_096


def windows_of(values: Floats, length: int = WINDOW) -> Floats:
    """Return the flattened window that ends at each point, float64[n − length + 1, length × channels]."""
    windows = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)
    return windows.transpose(0, 2, 1).reshape(len(windows), -1)


def at_the_end(scores: Floats, rows: int) -> Floats:
    """Return the score of each point as that of the window that ends there; the first points get the first score."""
    return np.concatenate([np.full(rows - len(scores), scores[0]), scores])


def around(scores: Floats, rows: int) -> Floats:
    """Return the score of each point as the mean over the windows that contain it."""
    length = rows - len(scores) + 1
    totals = np.concatenate([[0.0], np.cumsum(scores)])
    places = np.arange(rows)
    first, last = np.maximum(places - length + 1, 0), np.minimum(places, len(scores) - 1)
    return (totals[last + 1] - totals[first]) / (last - first + 1)


def sub_pca(training: Floats) -> Score:
    """Return the squared components of a window, each in units of its variance (Aggarwal, "Outlier Analysis", 2017).

    Args:
        training: float64[m, d], windows of ordinary rows.
    """
    centre, scale = training.mean(axis=0), training.std(axis=0) + _FLAT
    variances, axes = np.linalg.eigh(np.cov((training - centre) / scale, rowvar=False))
    # The smallest components of overlapping windows are rounding errors.
    weights = axes / np.sqrt(np.maximum(variances, 1e-3 * variances[-1]) + _FLAT)
    return _in_blocks(lambda windows: (((windows - centre) / scale @ weights) ** 2).sum(axis=1))


def forest(training: Floats) -> Score:
    """Return an isolation forest on windows: 200 trees of up to 2,048 samples."""
    # scikit-learn has no annotations, so pyright infers types from the defaults.
    options: dict[str, Any] = {
        "n_estimators": 200,
        "max_samples": min(2_048, len(training)),
        "random_state": _SEED,
    }
    fitted = IsolationForest(**options).fit(training)
    return _in_blocks(lambda windows: -fitted.score_samples(windows))


def rolling_z(values: Floats) -> Floats:
    """Return the largest robust z of the channels over ``LOOKBACK`` points before each one, float64[n]."""
    padded = np.concatenate([np.repeat(values[:1], LOOKBACK, axis=0), values[:-1]])
    views = np.lib.stride_tricks.sliding_window_view(padded, LOOKBACK, axis=0)
    found = np.empty(len(values))
    floor = _MAD * np.median(np.abs(np.diff(values[: LOOKBACK + 1], axis=0)), axis=0) / 2.0 + _FLAT
    for start in range(0, len(values), _BLOCK):
        block = views[start : start + _BLOCK]
        centre = np.median(block, axis=2)
        spread = _MAD * np.median(np.abs(block - centre[:, :, np.newaxis]), axis=2)
        sizes = np.abs(values[start : start + _BLOCK] - centre) / np.maximum(spread, floor)
        found[start : start + _BLOCK] = sizes.max(axis=1)
    return found


def point_deviation(training: Floats) -> Score:
    """Return the largest |value − median| / MAD among the channels, of the training rows.

    Method: PAI's pointwise term (Zhang et al., arXiv 2606.08935).
    """
    centre, spread = _centre_and_spread(training)
    return lambda values: (np.abs(values - centre) / spread).max(axis=1)


def mean_shift(training: Floats) -> Score:
    """Return the largest shift of a local mean among the channels and ``SHIFTS``, in robust scales of the shift.

    It is |mean of the last k − mean of the k before|, as PAI's local term.
    """
    spreads = [_MAD * np.median(_shifts(training, k), axis=0) + _FLAT for k in SHIFTS]

    def score(values: Floats) -> Floats:
        sizes = [_shifts(values, k) / spread for k, spread in zip(SHIFTS, spreads, strict=True)]
        return np.maximum.reduce(sizes).max(axis=1)

    return score


def combined(parts: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Return the sum of scores, each in its own scale: the distance from its median to its 99% quantile.

    Args:
        parts: scores float64[n] with scores of ordinary points, float64[m], that the detector did not remember.
    """
    total = np.zeros(len(parts[0][0]))
    for scores, ordinary in parts:
        low, high = np.quantile(ordinary, [0.5, 0.99])
        total += np.maximum(scores - low, 0.0) / max(high - low, _FLAT)
    return total


def memory_distances(
    encoder: PatchEncoder, values: Floats, training: Floats, place: Callable[[Floats, int], Floats], seed: int
) -> tuple[Floats, Floats]:
    """Return the distances of points to the memory of the training rows, and ordinary distances.

    Ordinary distances are those of the second half of the training rows to the memory of the first: a patch that is
    remembered has no distance.

    Args:
        encoder: the trained encoder.
        values: float64[n, channels].
        training: float64[m, channels], the training rows.
        place: ``around`` or ``at_the_end``.
        seed: seed of the choice of remembered patches.
    """
    half = len(training) // 2

    def distances(rows: Floats, known: Floats) -> Floats:
        memory = encoder.remember(patches_of(known, WINDOW), seed)
        return place(encoder.distances(patches_of(rows, WINDOW), memory), len(rows))

    return distances(values, training), distances(training[half:], training[:half])


def _shifts(values: Floats, length: int) -> Floats:
    totals = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    means = (totals[length:] - totals[:-length]) / length
    found = np.zeros_like(values)
    found[2 * length - 1 :] = np.abs(means[length:] - means[:-length])
    return found


def _centre_and_spread(training: Floats) -> tuple[Floats, Floats]:
    centre = np.median(training, axis=0)
    spread = _MAD * np.median(np.abs(training - centre), axis=0)
    return centre, np.maximum(spread, 0.1 * training.std(axis=0) + _FLAT)


def _in_blocks(score: Score) -> Score:
    def scored(windows: Floats) -> Floats:
        parts = [score(windows[start : start + _BLOCK]) for start in range(0, len(windows), _BLOCK)]
        return np.concatenate(parts)

    return scored
