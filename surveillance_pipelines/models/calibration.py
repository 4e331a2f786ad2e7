"""Calibration of a model's statistic to a score from 0 to 1 that is 0.5 at the model's alert threshold."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.models.kernel_calls import call
from surveillance_pipelines.models.members import BundleError

Floats = npt.NDArray[np.float64]
Calibration = Callable[[Floats], Floats]

THRESHOLD: Final = 0.5
"""Score at which every calibrated detector crosses its alert threshold."""
_OTHER: Final = "use another bundle, or train a new one"


def calibration_of(value: Mapping[str, Any]) -> Calibration:
    """Return the calibration function of a bundle's description.

    Args:
        value: ``{"rule": "knots", "statistic": [...], "score": [...]}`` for linear interpolation between two or more
            knots, finite, with strictly ascending statistics and ascending scores from 0 to 1; or
            ``{"rule": "threshold", "threshold": t}`` with 0 < t < 1 for two lines through (0, 0), (t, 0.5) and (1, 1).

    Raises:
        BundleError: if the rule is unknown, incomplete or invalid.
    """
    try:
        rule = value["rule"]
        if rule == "knots":
            knots, scores = (np.asarray(value[name], dtype=np.float64) for name in ("statistic", "score"))
            _require_knots(knots, scores)
            return lambda statistic: calibrated(statistic, knots, scores)
        if rule == "threshold":
            threshold = float(value["threshold"])
            _require_threshold(threshold)
            return lambda statistic: centred_on_threshold(statistic, threshold)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"expected a complete calibration, got {value!r:.200}: {error}", remedy=_OTHER) from error
    raise BundleError(
        f"expected the calibration rule knots or threshold, got {rule!r:.100}", remedy="use a newer release"
    )


def _require_threshold(threshold: float) -> None:
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"expected a threshold between 0 and 1, got {threshold}")


def _require_knots(knots: Floats, scores: Floats) -> None:
    if knots.ndim != 1 or knots.shape != scores.shape or len(knots) < 2:
        raise ValueError(
            f"expected two or more knots with a score each, got shapes {list(knots.shape)} and {list(scores.shape)}"
        )
    # A comparison with NaN is False, so NaN and infinity are refused as well.
    if not (np.diff(knots) > 0).all() or not np.isfinite(knots[[0, -1]]).all():
        raise ValueError("expected finite statistics in ascending order")
    if not (np.diff(scores) >= 0).all() or not 0.0 <= scores[0] <= scores[-1] <= 1.0:
        raise ValueError("expected scores from 0 to 1 in ascending order")


def calibrated(statistic: Floats, knots: Floats, scores: Floats) -> Floats:
    """Return scores by linear interpolation between knots, constant outside.

    ``numpy.interp`` computes slopes in one of two ways, depending on the number of values; this function always uses
    the same arithmetic.
    """
    found = np.empty(len(statistic))
    call("calibrate", *(np.ascontiguousarray(each, dtype=np.float64) for each in (statistic, knots, scores)), found)
    return found


def centred_on_threshold(probability: Floats, threshold: float) -> Floats:
    """Return probabilities mapped by two straight lines so that ``threshold`` becomes 0.5, and 0 and 1 are kept."""
    found = np.empty(len(probability))
    call("centre", np.ascontiguousarray(probability, dtype=np.float64), threshold, THRESHOLD, found)
    return found
