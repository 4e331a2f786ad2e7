"""Thresholds by alert budget: how rare a score has to be among ordinary bars before anyone is told."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.models.scoring import THRESHOLD

Floats = npt.NDArray[np.float64]

ALERTS_PER_SYMBOL_DAY: Final = 1.0
"""Alerts that a person accepts for one symbol on one ordinary day, both detectors together."""

BARS_PER_DAY: Final = 390
"""Minutes of a regular session: the day of the budget, whatever the hours of the instrument."""

DETECTOR_RATE: Final = ALERTS_PER_SYMBOL_DAY / 2 / BARS_PER_DAY
"""Part of ordinary bars on which each of the two detectors may alert."""

_TAIL: Final = 0.02
"""Part of the errors that shows how fast the tail falls."""

_DECADES: Final = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)


@dataclass(frozen=True, slots=True, eq=False)
class ErrorCalibration:
    """Knots of the map from reconstruction error to a score of 0..1, straight lines between; both strictly ascending.

    0.5 is where an ordinary bar is beyond with probability ``DETECTOR_RATE``, 1 where with its square.
    """

    error: Floats
    score: Floats


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
    body = [p for p in _DECADES if p > _TAIL]
    beyond = [p for p in _DECADES if p <= _TAIL] + [DETECTOR_RATE ** (k / 8) for k in range(8, 17)]
    beyond = [p for p in beyond if p <= _TAIL]
    knots = [float(np.quantile(logs, 1.0 - p)) for p in body] + [start + tail * np.log(_TAIL / p) for p in beyond]
    score = [THRESHOLD * np.log(p) / np.log(DETECTOR_RATE) for p in (*body, *beyond)]
    return _strictly_ascending(np.exp([-np.inf, *knots]), np.array([0.0, *score]))


def budget_threshold(scores: Floats, rate: float = DETECTOR_RATE) -> float:
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
