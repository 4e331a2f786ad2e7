"""Thresholds from an alert budget: the share of ordinary bars that may raise an alert."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.errors import TooLittleDataError
from surveillance_pipelines.models.calibration import THRESHOLD

Floats = npt.NDArray[np.float64]

ALERTS_PER_SYMBOL_DAY: Final = 1.0
"""Alert budget per symbol and ordinary day, shared by all detectors."""

BARS_PER_DAY: Final = 390
"""Minutes of a regular session, used as the day of the budget regardless of the instrument's hours."""

_BUDGET_RATE: Final = ALERTS_PER_SYMBOL_DAY / BARS_PER_DAY
TAIL_RATE: Final = 0.6 * _BUDGET_RATE
CLASSIFIER_RATE: Final = 0.4 * _BUDGET_RATE
"""Share of ordinary bars on which each detector may alert; their sum bounds the rate of all. The autoencoder has none
(docs/adr/0031-tails-and-floors.md)."""

_TAIL: Final = 0.02
"""Share of the largest values used to estimate the tail."""

_COUNTED: Final = (0.5, 0.3, 0.2, 0.1, 0.05)


@dataclass(frozen=True, slots=True, eq=False)
class StatisticCalibration:
    """Knots of the piecewise linear map from a statistic to a score of 0..1; both strictly ascending.

    An ordinary bar exceeds the statistic at score 0.5 with the accepted rate, and the one at score 1 with its square.
    """

    statistic: Floats
    score: Floats

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as a bundle lists it (``models/calibration.py``)."""
        return {"rule": "knots", "statistic": self.statistic.tolist(), "score": self.score.tolist()}


def calibrate_surprise(surprises: Floats, rate: float) -> StatisticCalibration:
    """Fit the map of a surprise in nats, −ln of a p-value.

    Beyond the 98% quantile there are too few values for empirical quantiles. The tail there is exponential, and its
    scale is the mean excess over the quantile (Hill, "A simple general approach to inference about the tail of a
    distribution", Annals of Statistics 1975).

    Args:
        surprises: float64[n] of ordinary bars, at least 0.
        rate: accepted share of ordinary bars above the threshold.

    Raises:
        TooLittleDataError: if there are fewer than 100.
    """
    if len(surprises) < 100:
        raise TooLittleDataError(f"expected at least 100 ordinary bars to calibrate on, got {len(surprises)}")
    start = float(np.quantile(surprises, 1.0 - _TAIL))
    tail = max(float(np.mean(np.maximum(surprises[surprises >= start] - start, 0.0))), 1e-3)
    extrapolated = (_TAIL, 0.01, 0.005, 0.002, *(rate ** (k / 8) for k in range(8, 17)))
    knots = [float(np.quantile(surprises, 1.0 - p)) for p in _COUNTED]
    knots += [start + tail * float(np.log(_TAIL / p)) for p in extrapolated]
    score = [THRESHOLD * float(np.log(p) / np.log(rate)) for p in (*_COUNTED, *extrapolated)]
    return _strictly_ascending(np.array([0.0, *knots]), np.array([0.0, *score]))


def budget_threshold(scores: Floats, rate: float = CLASSIFIER_RATE) -> float:
    """Return the score that a share ``rate`` of ordinary bars exceeds, bounded away from 0 and 1.

    Args:
        scores: float64[n] of ordinary validation bars, 0..1.
        rate: accepted share of bars above the threshold.
    """
    return float(np.clip(np.quantile(scores, 1.0 - rate, method="higher"), 0.05, 0.995))


def _strictly_ascending(statistic: Floats, score: Floats) -> StatisticCalibration:
    order = np.argsort(score, kind="stable")
    statistic, score = np.maximum.accumulate(statistic[order]), score[order]
    keep = np.concatenate([[True], np.diff(statistic) > 0])
    return StatisticCalibration(statistic=statistic[keep], score=score[keep])
