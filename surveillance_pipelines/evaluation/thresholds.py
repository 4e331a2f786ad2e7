"""Thresholds by alert budget: how rare a score has to be among ordinary bars before anyone is told."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.models.calibration import THRESHOLD

Floats = npt.NDArray[np.float64]

ALERTS_PER_SYMBOL_DAY: Final = 1.5
"""Alerts that a person accepts for one symbol on one ordinary day, both detectors together."""

BARS_PER_DAY: Final = 390
"""Minutes of a regular session: the day of the budget, whatever the hours of the instrument."""

CLASSIFIER_RATE: Final = 0.6 * ALERTS_PER_SYMBOL_DAY / BARS_PER_DAY
AUTOENCODER_RATE: Final = 0.4 * ALERTS_PER_SYMBOL_DAY / BARS_PER_DAY
"""Part of ordinary bars on which each detector may alert: more of the budget goes to the one that can name a kind."""

_TAIL: Final = 0.02
"""Part of the errors that shows how fast the tail falls."""

_COUNTED: Final = (0.5, 0.3, 0.2, 0.1, 0.05)
_EXTRAPOLATED: Final = (_TAIL, 0.01, 0.005, 0.002, *(AUTOENCODER_RATE ** (k / 8) for k in range(8, 17)))
"""Probabilities of being beyond, at the knots of the map: read off the errors, or off the tail fitted to them."""


@dataclass(frozen=True, slots=True, eq=False)
class ErrorCalibration:
    """Knots of the map from reconstruction error to a score of 0..1, straight lines between; both strictly ascending.

    0.5 is where an ordinary bar is beyond with probability ``AUTOENCODER_RATE``, 1 where with its square.
    """

    error: Floats
    score: Floats

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as a bundle lists it (``models/calibration.py``)."""
        return {"rule": "knots", "statistic": self.error.tolist(), "score": self.score.tolist()}


def calibrate_error(errors: Floats) -> ErrorCalibration:
    """Fit the map on the errors of ordinary bars that the autoencoder has not seen.

    Where the errors are too few to count (beyond the rarest 2%), the logarithm of the error is taken to have an
    exponential tail, whose scale is the mean excess over the 98% quantile (Hill, "A simple general approach to
    inference about the tail of a distribution", Annals of Statistics 1975).

    Args:
        errors: float64[n] of validation bars.

    Raises:
        ValueError: if there are fewer than 100.
    """
    if len(errors) < 100:
        raise ValueError(f"expected at least 100 validation bars to calibrate on, was {len(errors)}: use more days")
    logs = np.log(np.maximum(errors, 1e-12))
    start = float(np.quantile(logs, 1.0 - _TAIL))
    tail = max(float(np.mean(np.maximum(logs[logs >= start] - start, 0.0))), 1e-3)
    knots = [float(np.quantile(logs, 1.0 - p)) for p in _COUNTED]
    knots += [start + tail * float(np.log(_TAIL / p)) for p in _EXTRAPOLATED]
    score = [THRESHOLD * np.log(p) / np.log(AUTOENCODER_RATE) for p in (*_COUNTED, *_EXTRAPOLATED)]
    return _strictly_ascending(np.exp([-np.inf, *knots]), np.array([0.0, *score]))


def budget_threshold(scores: Floats, rate: float = CLASSIFIER_RATE) -> float:
    """Return the score that a part ``rate`` of ordinary bars exceeds, kept off 0 and 1.

    Args:
        scores: float64[n] of ordinary validation bars, 0..1.
        rate: accepted part of them.
    """
    return float(np.clip(np.quantile(scores, 1.0 - rate, method="higher"), 0.05, 0.995))


def _strictly_ascending(error: Floats, score: Floats) -> ErrorCalibration:
    order = np.argsort(score, kind="stable")
    error, score = np.maximum.accumulate(error[order]), score[order]
    keep = np.concatenate([[True], np.diff(error) > 0])
    return ErrorCalibration(error=error[keep], score=score[keep])
