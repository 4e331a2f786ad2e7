"""A streaming detector of one series: how surprising is a value's distance from all values seen before?

It applies the tail detector's measure, −ln of the probability of an ordinary value beyond the observed one, to one
statistic that needs no scale: the distance to the nearest earlier value. A value that was seen once is no longer novel,
so an anomaly that lasts is reported once, and further novelty counts only if it surprises more than the recent one.
"""

from bisect import bisect_left, insort
from collections import deque
from math import log
from typing import Final

import numpy as np
import numpy.typing as npt

WARM_UP: Final = 64
"""Values before the first distance counts: distances among few values are large."""
LEAST: Final = 50
"""Distances before the first score."""
TAIL_SHARE: Final = 0.05
"""Share of the distances that form the tail, which is fitted as exponential (mean excess)."""
EPISODE: Final = 50
"""Values for which a surprise hides those that are not larger."""


class NoveltyDetector:
    """Scores each value from those before it. Reads neither labels, nor the range of the series, nor later values."""

    def __init__(self) -> None:
        self._values: Final[list[float]] = []
        self._distances: Final[list[float]] = []
        self._recent: Final[deque[float]] = deque([0.0], maxlen=EPISODE)

    def update(self, value: float) -> float:
        """Return the surprise of the next value in nats, 0 if hidden or unknown, and remember the value.

        Method: peaks over threshold (Siffer et al., "Anomaly detection in streams with extreme value theory", KDD
        2017) with an exponential tail; below the tail, the rank.
        """
        if len(self._values) < WARM_UP:
            insort(self._values, value)
            return 0.0
        distance = self._nearest(value)
        score = self._surprise(distance) if len(self._distances) >= LEAST else 0.0
        insort(self._values, value)
        insort(self._distances, distance)
        largest = max(self._recent)
        self._recent.append(score)
        return score if score > largest else 0.0

    def _nearest(self, value: float) -> float:
        place = bisect_left(self._values, value)
        return min(abs(value - known) for known in self._values[max(place - 1, 0) : place + 1])

    def _surprise(self, distance: float) -> float:
        known = self._distances
        start = int((1.0 - TAIL_SHARE) * len(known))
        limit = known[start]
        excess = sum(known[start + 1 :]) / max(len(known) - start - 1, 1) - limit
        if distance > limit and excess > 0.0:
            return (distance - limit) / excess - log(TAIL_SHARE)
        above = len(known) - bisect_left(known, distance)
        return -log((above + 1) / (len(known) + 1))


def novelty(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the scores of a series, float64[n], from a detector that knows nothing before its first value."""
    detector = NoveltyDetector()
    return np.array([detector.update(value) for value in values.tolist()])
