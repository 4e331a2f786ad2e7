"""Volume under the surface of precision and recall (VUS-PR), a measure of detection that needs no threshold.

Method: Paparrizos et al., "Volume under the surface: a new accuracy evaluation measure for time-series anomaly
detection", VLDB 2022. Labels are ranges, so a point near a labelled range is part of it to a degree, within a buffer;
the area under the curve of precision and recall is averaged over the lengths of the buffer.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Range = tuple[int, int]

THRESHOLDS: Final = 250
"""Points of each curve, at evenly spaced ranks of the scores, as in the authors' package."""


def vus_pr(labels: npt.NDArray[np.bool_], scores: Floats, longest_buffer: int, thresholds: int = THRESHOLDS) -> float:
    """Return the mean area under the range-aware precision–recall curve over the buffers 0 to ``longest_buffer``.

    It takes O(n log n + b (m + t)) time and O(n + m + t) memory for n points, b buffers, m points in or near the
    ranges, and t thresholds.

    Args:
        labels: bool[n], the anomalous points.
        scores: float64[n], larger is more anomalous.
        longest_buffer: total length of the longest buffer around a range, in points; half of it lies on either side.
        thresholds: number of thresholds.

    Returns:
        From 0 to 1; NaN without an anomalous point.

    Raises:
        ValueError: if a score is NaN, the lengths differ, or the buffer or number of thresholds is too small.
    """
    if labels.shape != scores.shape or labels.ndim != 1 or np.isnan(scores).any():
        raise ValueError(f"expected labels and scores of one length, without NaN, got {labels.shape}, {scores.shape}")
    if longest_buffer < 0 or thresholds < 2:
        raise ValueError(f"expected a buffer from 0 and 2 thresholds or more, got {longest_buffer} and {thresholds}")
    if not labels.any():
        return float("nan")
    ranks = _first_thresholds(scores, thresholds)
    surface = _Surface(labels, ranks, thresholds, labelled_ranges(labels))
    return float(np.mean([surface.area(buffer) for buffer in range(longest_buffer + 1)]))


def labelled_ranges(labels: npt.NDArray[np.bool_]) -> list[Range]:
    """Return the first and last place of each run of true labels."""
    edges = np.flatnonzero(np.diff(labels.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(after) - 1) for first, after in zip(edges[::2], edges[1::2], strict=True)]


def _first_thresholds(scores: Floats, count: int) -> npt.NDArray[np.int64]:
    """Return for each point the number of the first (largest) threshold that its score reaches, int64[n].

    The last threshold is the smallest score, so every point reaches one.
    """
    ordered = np.sort(scores)[::-1]
    limits = ordered[np.linspace(0, len(scores) - 1, count).astype(np.int64)]
    return np.searchsorted(-limits, -scores, side="left")


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """The curves of one series.

    Attributes:
        labels: bool[n].
        ranks: int64[n], the first threshold that each point reaches.
        thresholds: number of thresholds, t.
        ranges: first and last place of each labelled range.
    """

    labels: npt.NDArray[np.bool_]
    ranks: npt.NDArray[np.int64]
    thresholds: int
    ranges: list[Range]

    def area(self, buffer: int) -> float:
        """Return the area under the precision–recall curve of one buffer."""
        places, weights = self._buffered(buffer)
        near = np.bincount(self.ranks[places], weights=weights, minlength=self.thresholds).cumsum()
        inside = np.bincount(self.ranks[self.labels], minlength=self.thresholds).cumsum()
        predicted = np.bincount(self.ranks, minlength=self.thresholds).cumsum()
        true_positives = inside + near
        # The authors' positives: the mean of the labelled points, and of these with the predicted part of the buffers.
        positives = int(self.labels.sum()) + near / 2.0
        recall = np.minimum(true_positives / positives, 1.0) * self._existence(buffer)
        precision = true_positives / predicted
        return float(np.diff(recall, prepend=0.0) @ precision)

    def _buffered(self, buffer: int) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return the places in buffers, outside the ranges, and the degree to which each belongs to a range."""
        half, size = buffer // 2, len(self.labels)
        degrees: dict[int, float] = {}
        for first, last in self.ranges:
            for distance in range(1, half + 1):
                for place in (first - distance, last + distance):
                    if 0 <= place < size and not self.labels[place]:
                        degrees[place] = degrees.get(place, 0.0) + float(np.sqrt(1.0 - distance / buffer))
        places = np.fromiter(degrees.keys(), dtype=np.int64, count=len(degrees))
        weights = np.fromiter(degrees.values(), dtype=np.float64, count=len(degrees))
        return places, np.minimum(weights, 1.0)

    def _existence(self, buffer: int) -> Floats:
        """Return the share of ranges, joined if their buffers touch, with a detection, at each threshold."""
        half, size = buffer // 2, len(self.labels)
        starts, ends = [max(self.ranges[0][0] - half, 0)], []
        for (_, last), (first, _) in pairwise(self.ranges):
            if last + half < first - half:
                ends.append(last + half)
                starts.append(first - half)
        ends.append(min(self.ranges[-1][1] + half, size - 1))
        reached = [int(self.ranks[start : end + 1].min()) for start, end in zip(starts, ends, strict=True)]
        return np.bincount(reached, minlength=self.thresholds).cumsum() / len(reached)
