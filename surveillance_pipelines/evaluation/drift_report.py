"""Drift of the market relative to the champion's training data."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import polars as pl

from surveillance_pipelines.evaluation.drift import ALERT_SHARE, drifted, population_stability
from surveillance_pipelines.features.finiteness import ALWAYS_DEFINED
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.models.bundle import Bundle

WINDOW: Final = timedelta(days=7)
"""Days evaluated together. One unusual day may be an anomaly; an unusual week indicates a changed market."""

MIN_ROWS: Final = 1_000
"""Minimum number of bars; with fewer, the ten bins have too few rows for a meaningful index."""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """Drift of recent whole days against the champion's training data.

    Attributes:
        indices: population stability index by feature, without features that are always defined (clock, presence).
        drifted: features above the alert level, largest index first.
        rows: number of bars.
        first: first day.
        last: last day.
    """

    indices: dict[str, float]
    drifted: list[str]
    rows: int
    first: date
    last: date

    @property
    def has_enough_rows(self) -> bool:
        return self.rows >= MIN_ROWS

    @property
    def is_alert(self) -> bool:
        return self.has_enough_rows and len(self.drifted) > ALERT_SHARE * len(self.indices)

    @property
    def summary(self) -> str:
        if not self.has_enough_rows:
            return f"{self.rows} bars from {self.first} to {self.last}: drift is evaluated from {MIN_ROWS} bars on"
        worst = f"; most {self.drifted[0]}, index {self.indices[self.drifted[0]]:.2f}" if self.drifted else ""
        return f"{len(self.drifted)} of {len(self.indices)} features drifted from {self.first} to {self.last}{worst}"


def window_before(today: date) -> tuple[date, date]:
    """Return the first and last day to evaluate: whole days only, because a partial day is not representative."""
    return today - WINDOW, today - timedelta(days=1)


def drift_report(features: pl.DataFrame, bundle: Bundle, first: date, last: date) -> DriftReport:
    """Compare the features of a range of days with the histograms in a bundle.

    Args:
        features: rows of the days, with the columns of the bundle's feature view.
        bundle: the champion.
        first: first day of the range.
        last: last day of the range.
    """
    reference = {name: bins for name, bins in bundle.features["columns"].items() if name not in ALWAYS_DEFINED}
    indices = population_stability(reference, feature_matrix(features, tuple(reference)), tuple(reference))
    return DriftReport(indices, drifted(indices), features.height, first, last)
