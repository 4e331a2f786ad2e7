"""Calibration of a model's statistic to a score from 0 to 1 that is 0.5 at the model's alert threshold."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.models.members import BundleError

Floats = npt.NDArray[np.float64]
Calibration = Callable[[Floats], Floats]

THRESHOLD: Final = 0.5
"""Score at which every calibrated detector crosses its alert threshold."""


def calibration_of(value: Mapping[str, Any]) -> Calibration:
    """Return the calibration function of a bundle's description.

    Args:
        value: ``{"rule": "knots", "statistic": [...], "score": [...]}`` for linear interpolation between knots, or
            ``{"rule": "threshold", "threshold": t}`` for two lines through (0, 0), (t, 0.5) and (1, 1).

    Raises:
        BundleError: if the rule is unknown or incomplete.
    """
    try:
        if value["rule"] == "knots":
            knots, scores = (np.asarray(value[name], dtype=np.float64) for name in ("statistic", "score"))
            return lambda statistic: calibrated(statistic, knots, scores)
        if value["rule"] == "threshold":
            threshold = float(value["threshold"])
            return lambda statistic: centred_on_threshold(statistic, threshold)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"expected a complete calibration, got {value!r:.200}: {error!r}") from error
    raise BundleError(f"expected the calibration rule knots or threshold, got {value['rule']!r}: use a newer release")


def calibrated(statistic: Floats, knots: Floats, scores: Floats) -> Floats:
    """Return scores by linear interpolation between knots, constant outside.

    ``numpy.interp`` computes slopes in one of two ways, depending on the number of values; this function always uses
    the same arithmetic.
    """
    right = np.minimum(np.maximum(knots.searchsorted(statistic, side="right"), 1), len(knots) - 1)
    left = right - 1
    part = np.minimum(np.maximum((statistic - knots[left]) / (knots[right] - knots[left]), 0.0), 1.0)
    return scores[left] + part * (scores[right] - scores[left])


def centred_on_threshold(probability: Floats, threshold: float) -> Floats:
    """Return probabilities mapped by two straight lines so that ``threshold`` becomes 0.5, and 0 and 1 are kept."""
    below = THRESHOLD * probability / threshold
    above = THRESHOLD + (1.0 - THRESHOLD) * (probability - threshold) / (1.0 - threshold)
    return np.minimum(np.maximum(np.where(probability < threshold, below, above), 0.0), 1.0)
