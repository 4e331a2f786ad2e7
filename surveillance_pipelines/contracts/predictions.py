"""Predictions of one model for n bars: a tagged union with one type per kind of output.

Every array has one row per bar. ``values`` must be finite for a prediction to be valid; ``absent`` returns the values
that replace an excluded model.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PredictionKind = Literal[
    "anomaly_score", "anomaly_kind", "direction", "price_forecast", "chart_pattern", "embedding_distance"
]

NORMAL: Final = "normal"
"""Label of ordinary bars; the first label of every anomaly classifier."""

DIRECTIONS: Final = ("SELL", "HOLD", "BUY")
"""Order of direction probabilities; classes 0, 1, 2."""


@dataclass(frozen=True, slots=True, eq=False)
class AnomalyScores:
    """A statistic that is large for unusual bars.

    Attributes:
        statistic: float64[n]; NaN for an excluded model.
        contributions: float64[n, d], contribution of each input column to the statistic, at least 0; None if the model
            does not provide contributions.
    """

    kind: ClassVar[PredictionKind] = "anomaly_score"
    statistic: Floats
    contributions: Floats | None = None

    @property
    def values(self) -> Floats:
        return self.statistic

    @classmethod
    def absent(cls, rows: int, columns: int) -> "AnomalyScores":
        return cls(np.full(rows, np.nan), np.zeros((rows, columns)))


@dataclass(frozen=True, slots=True, eq=False)
class AnomalyKinds:
    """Probabilities of the kinds of anomaly.

    Attributes:
        labels: names of the columns, ``NORMAL`` first.
        probabilities: float64[n, len(labels)], rows sum to 1.
    """

    kind: ClassVar[PredictionKind] = "anomaly_kind"
    labels: tuple[str, ...]
    probabilities: Floats

    @property
    def values(self) -> Floats:
        return self.probabilities

    @property
    def statistic(self) -> Floats:
        """Probability that the bar is not ordinary, float64[n]."""
        return 1.0 - self.probabilities[:, 0]

    @classmethod
    def absent(cls, rows: int, labels: tuple[str, ...]) -> "AnomalyKinds":
        return cls(labels, np.full((rows, len(labels)), 1.0 / len(labels)))


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """Probabilities of SELL, HOLD and BUY within a horizon: float64[n, 3] in the order of ``DIRECTIONS``."""

    kind: ClassVar[PredictionKind] = "direction"
    probabilities: Floats
    horizon_minutes: int

    @property
    def values(self) -> Floats:
        return self.probabilities


@dataclass(frozen=True, slots=True, eq=False)
class PriceForecasts:
    """Predicted prices.

    Attributes:
        horizons_minutes: one per column, ascending.
        price: float64[n, horizons], in the instrument's currency.
        confidence: float64[n, horizons], 0 to 1.
    """

    kind: ClassVar[PredictionKind] = "price_forecast"
    horizons_minutes: tuple[int, ...]
    price: Floats
    confidence: Floats

    @property
    def values(self) -> Floats:
        return self.price


@dataclass(frozen=True, slots=True, eq=False)
class ChartPatterns:
    """Detected chart patterns.

    Attributes:
        patterns: names of the columns.
        probability: float64[n, patterns], 0 to 1, independent per pattern.
        confidence: float64[n, patterns], 0 to 1.
        target_price: float64[n, patterns], NaN if the pattern implies none.
        completion_minutes: float64[n, patterns], expected time until the pattern completes; NaN if unknown.
    """

    kind: ClassVar[PredictionKind] = "chart_pattern"
    patterns: tuple[str, ...]
    probability: Floats
    confidence: Floats
    target_price: Floats
    completion_minutes: Floats

    @property
    def values(self) -> Floats:
        return self.probability


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingDistances:
    """Distance of a bar's embedding to its nearest neighbours in a memory of training bars, float64[n], at least 0."""

    kind: ClassVar[PredictionKind] = "embedding_distance"
    distance: Floats

    @property
    def values(self) -> Floats:
        return self.distance

    @property
    def statistic(self) -> Floats:
        return self.distance

    @classmethod
    def absent(cls, rows: int) -> "EmbeddingDistances":
        return cls(np.full(rows, np.nan))


Predictions = AnomalyScores | AnomalyKinds | Directions | PriceForecasts | ChartPatterns | EmbeddingDistances
