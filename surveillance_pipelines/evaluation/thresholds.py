"""Thresholds from an alert budget: the share of ordinary bars that may raise an alert."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.errors import TooLittleDataError
from surveillance_pipelines.models.calibration import THRESHOLD

Floats = npt.NDArray[np.float64]

ALERTS_PER_SYMBOL_DAY: Final = 1.5
"""Alert budget per symbol and ordinary day, shared by both detectors."""

BARS_PER_DAY: Final = 390
"""Minutes of a regular session, used as the day of the budget regardless of the instrument's hours."""

CLASSIFIER_RATE: Final = 0.6 * ALERTS_PER_SYMBOL_DAY / BARS_PER_DAY
AUTOENCODER_RATE: Final = 0.4 * ALERTS_PER_SYMBOL_DAY / BARS_PER_DAY
"""Share of ordinary bars on which each detector may alert. The classifier gets more, because it can name the kind."""

_TAIL: Final = 0.02
"""Share of the largest errors used to estimate the tail."""

_COUNTED: Final = (0.5, 0.3, 0.2, 0.1, 0.05)
_EXTRAPOLATED: Final = (_TAIL, 0.01, 0.005, 0.002, *(AUTOENCODER_RATE ** (k / 8) for k in range(8, 17)))
"""Exceedance probabilities at the knots of the map, from empirical quantiles and from the fitted tail."""


@dataclass(frozen=True, slots=True, eq=False)
class ErrorCalibration:
    """Knots of the piecewise linear map from reconstruction error to a score of 0..1; both strictly ascending.

    An ordinary bar exceeds the error at score 0.5 with probability ``AUTOENCODER_RATE``, and the error at score 1 with
    the square of that probability.
    """

    error: Floats
    score: Floats

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as a bundle lists it (``models/calibration.py``)."""
        return {"rule": "knots", "statistic": self.error.tolist(), "score": self.score.tolist()}


def calibrate_error(errors: Floats) -> ErrorCalibration:
    """Fit the map on the errors of ordinary bars that were not used to train the autoencoder.

    Beyond the 98% quantile there are too few errors for empirical quantiles. There, the logarithm of the error is
    assumed to have an exponential tail whose scale is the mean excess over that quantile (Hill, "A simple general
    approach to inference about the tail of a distribution", Annals of Statistics 1975).

    Args:
        errors: float64[n], reconstruction errors of validation bars.

    Raises:
        TooLittleDataError: if there are fewer than 100.
    """
    if len(errors) < 100:
        raise TooLittleDataError(f"expected at least 100 validation bars to calibrate on, got {len(errors)}")
    logs = np.log(np.maximum(errors, 1e-12))
    start = float(np.quantile(logs, 1.0 - _TAIL))
    tail = max(float(np.mean(np.maximum(logs[logs >= start] - start, 0.0))), 1e-3)
    knots = [float(np.quantile(logs, 1.0 - p)) for p in _COUNTED]
    knots += [start + tail * float(np.log(_TAIL / p)) for p in _EXTRAPOLATED]
    score = [THRESHOLD * np.log(p) / np.log(AUTOENCODER_RATE) for p in (*_COUNTED, *_EXTRAPOLATED)]
    return _strictly_ascending(np.exp([-np.inf, *knots]), np.array([0.0, *score]))


def budget_threshold(scores: Floats, rate: float = CLASSIFIER_RATE) -> float:
    """Return the score that a share ``rate`` of ordinary bars exceeds, bounded away from 0 and 1.

    Args:
        scores: float64[n] of ordinary validation bars, 0..1.
        rate: accepted share of bars above the threshold.
    """
    return float(np.clip(np.quantile(scores, 1.0 - rate, method="higher"), 0.05, 0.995))


def _strictly_ascending(error: Floats, score: Floats) -> ErrorCalibration:
    order = np.argsort(score, kind="stable")
    error, score = np.maximum.accumulate(error[order]), score[order]
    keep = np.concatenate([[True], np.diff(error) > 0])
    return ErrorCalibration(error=error[keep], score=score[keep])
