"""Scoring of the Numenta Anomaly Benchmark (NAB) 1.1.

Method: Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms: the Numenta Anomaly Benchmark", ICMLA 2015.
A detection inside a labelled window counts once, the more the earlier it is. Every detection outside one costs, the
more the farther it is behind the last window. One threshold holds for all series of the corpus.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PROBATION_SHARE: Final = 0.15
"""Share of a series whose scores do not count: a detector may learn from it."""
PROBATION_ROWS: Final = 5_000
"""Rows beyond which the probationary period grows no more."""
NOTHING: Final = np.inf
"""The threshold of a detector that is best off if it detects nothing."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Weights of an application profile.

    Attributes:
        name: NAB's name of the profile.
        true_positive: gain of a window that is detected at its first row.
        false_positive: cost of a detection far from any window.
        false_negative: cost of a window without a detection.
    """

    name: str
    true_positive: float
    false_positive: float
    false_negative: float


PROFILES: Final = (
    Profile("standard", 1.0, 0.11, 1.0),
    Profile("reward_low_FP_rate", 1.0, 0.22, 1.0),
    Profile("reward_low_FN_rate", 1.0, 0.11, 2.0),
)


@dataclass(frozen=True, slots=True, eq=False)
class NabSeries:
    """A series with its labels.

    Attributes:
        name: file of the series in NAB's data folder.
        times: datetime64[us][n], instants as published, without time zone.
        values: float64[n].
        windows: first and last row of each labelled window, ascending.
    """

    name: str
    times: npt.NDArray[np.datetime64]
    values: Floats
    windows: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class CorpusScore:
    """The score of a detector on a corpus.

    Attributes:
        score: 0 for a detector that detects nothing, 100 for a perfect one.
        threshold: detections are the rows whose anomaly score is at least this; ``NOTHING`` without detections.
        totals: weighted score of each series, before normalization.
        detected: windows with a detection.
        windows: all windows.
        false_positives: rows with a detection outside the windows.
    """

    score: float
    threshold: float
    totals: tuple[float, ...]
    detected: int
    windows: int
    false_positives: int


def probation_rows(rows: int) -> int:
    """Return the number of rows of the probationary period."""
    return int(min(np.floor(PROBATION_SHARE * rows), PROBATION_SHARE * PROBATION_ROWS))


def scaled_sigmoid(position: Floats) -> Floats:
    """Return 2 / (1 + exp(5 position)) − 1, and −1 from 3 on.

    Args:
        position: float64[n]; −1 is the left edge of a window, 0 its right edge, 1 one width behind it.
    """
    return np.where(position >= 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, 3.0))) - 1.0)


def row_gains(rows: int, windows: Sequence[tuple[int, int]]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return what a detection at each row is worth, and the row's window.

    Args:
        rows: rows of the series, n.
        windows: first and last row of each window, ascending.

    Returns:
        float64[n]: 1 at the first row of a window, less later, −1 far from windows, before weights; int64[n], the
        number of the window, −1 outside.
    """
    position = np.full(rows, 3.0)
    window = np.full(rows, -1, dtype=np.int64)
    places = np.arange(rows)
    for number, (first, last) in enumerate(windows):
        width = last - first + 1
        inside = slice(first, last + 1)
        position[inside] = -(last - places[inside] + 1) / width
        window[inside] = number
        position[last + 1 :] = (places[last + 1 :] - last) / max(width - 1, 1)
    gains = scaled_sigmoid(position)
    largest = scaled_sigmoid(np.array([-1.0]))[0]
    return np.where(window >= 0, gains / largest, gains), window


class NabScorer:
    """Scores detectors on a corpus under one profile."""

    def __init__(self, corpus: Sequence[NabSeries], profile: Profile) -> None:
        """Prepare the corpus.

        Args:
            corpus: all series.
            profile: the weights.
        """
        gains, windows, owners, counted, offset = [], [], [], [], 0
        for number, series in enumerate(corpus):
            gain, window = row_gains(len(series.values), series.windows)
            gains.append(gain)
            windows.append(np.where(window >= 0, window + offset, -1))
            owners.append(np.full(len(gain), number))
            counted.append(np.arange(len(gain)) >= probation_rows(len(gain)))
            offset += len(series.windows)
        self._profile: Final = profile
        self._counted: Final = np.concatenate(counted)
        self._window: Final = np.concatenate(windows)[self._counted]
        self._owner: Final = np.concatenate(owners)[self._counted]
        weights = np.where(self._window >= 0, profile.true_positive, profile.false_positive)
        self._gain: Final = np.concatenate(gains)[self._counted] * weights
        self._series: Final = len(corpus)
        # A window of which no row counts can be neither found nor missed.
        self._windows: Final = np.unique(self._window[self._window >= 0])
        self._window_owner: Final = np.array(
            [self._owner[np.argmax(self._window == window)] for window in self._windows], dtype=np.int64
        )

    @property
    def null(self) -> float:
        """The weighted score of a detector that detects nothing."""
        return -self._profile.false_negative * len(self._windows)

    @property
    def perfect(self) -> float:
        """The weighted score of a detector that finds every window at its first row, and nothing else."""
        return self._profile.true_positive * len(self._windows)

    def best(self, scores: Sequence[Floats]) -> CorpusScore:
        """Return the score at the threshold that is best for the whole corpus; the highest of equally good ones."""
        flat = self._flat(scores)
        order = np.argsort(-flat, kind="stable")
        totals = self.null + np.cumsum(self._changes(order))
        ends = np.append(np.flatnonzero(np.diff(flat[order])), len(order) - 1)
        place = ends[np.argmax(totals[ends])]
        if totals[place] <= self.null:
            return self.at(scores, NOTHING)
        return self.at(scores, float(flat[order[place]]))

    def at(self, scores: Sequence[Floats], threshold: float) -> CorpusScore:
        """Return the score at one threshold."""
        found = self._flat(scores) >= threshold
        inside = self._window >= 0
        wrong = found & ~inside
        totals = np.bincount(self._owner[wrong], weights=self._gain[wrong], minlength=self._series)
        worth = np.full(int(self._window.max(initial=-1)) + 1, -self._profile.false_negative)
        np.maximum.at(worth, self._window[found & inside], self._gain[found & inside])
        np.add.at(totals, self._window_owner, worth[self._windows])
        return CorpusScore(
            score=self.normalized(float(totals.sum())),
            threshold=threshold,
            totals=tuple(totals.tolist()),
            detected=len(np.unique(self._window[found & inside])),
            windows=len(self._windows),
            false_positives=int(wrong.sum()),
        )

    def normalized(self, total: float) -> float:
        """Return a weighted score on the scale from 0 (null) to 100 (perfect detector); NaN without windows."""
        if not len(self._windows):
            return float("nan")
        return 100.0 * (total - self.null) / (self.perfect - self.null)

    def _flat(self, scores: Sequence[Floats]) -> Floats:
        flat = np.concatenate(scores)
        if len(flat) != len(self._counted) or np.isnan(flat).any():
            raise ValueError(f"expected {len(self._counted)} scores that are numbers, got {len(flat)} with NaN or not")
        return flat[self._counted]

    def _changes(self, order: npt.NDArray[np.int64]) -> Floats:
        """Return how much each row changes the total when rows are detected in this order."""
        gain, window = self._gain[order], self._window[order]
        changes = np.where(window < 0, gain, 0.0)
        for number in self._windows:
            places = np.flatnonzero(window == number)
            best = np.maximum.accumulate(gain[places])
            changes[places] = np.diff(best, prepend=-self._profile.false_negative)
        return changes
