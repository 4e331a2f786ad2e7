"""NAB's Windowed Gaussian detector: the anchor that shows whether a harness scores as NAB does."""

from math import erfc, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

WINDOW: Final = 6_400
STEP: Final = 100
_SMALLEST: Final = 1e-6
"""Standard deviation of a window without variation."""


def windowed_gaussian(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return one minus the tail probability of each value under the window before it, float64[n], 0 for the first.

    The window grows with each value up to ``WINDOW`` values, then moves by ``STEP`` values at a time.

    Args:
        values: float64[n], the series.
    """
    scores = np.zeros(len(values))
    first, last = 0, 0
    mean, deviation = 0.0, 1.0
    for place, value in enumerate(values):
        if place:
            scores[place] = 1.0 - 0.5 * erfc(abs(value - mean) / deviation / sqrt(2.0))
        if last - first < WINDOW:
            last = place + 1
        elif place + 1 - last == STEP:
            first, last = first + STEP, place + 1
        else:
            continue
        mean = float(np.mean(values[first:last]))
        deviation = float(np.std(values[first:last])) or _SMALLEST
    return scores
