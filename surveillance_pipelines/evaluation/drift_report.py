"""Whether the market still looks like the one that the champion was trained on."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import polars as pl

from surveillance_pipelines.evaluation.drift import drifted, population_stability
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.features.quality import ALWAYS_DEFINED
from surveillance_pipelines.models.bundle import Bundle

WINDOW: Final = timedelta(days=7)
"""Days judged together: one odd day is what the platform is there to find, an odd week is another market."""

MIN_ROWS: Final = 1_000
"""Fewer bars than this fill ten bins too thinly for the index to mean anything."""

ALERT_SHARE: Final = 0.2
"""Part of the features that has to move before the champion counts as out of date."""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """Drift of recent whole days against the champion's training data.

    Attributes:
        indices: population stability index by feature, without those that follow the clock.
        moved: features above the alert level, worst first.
        rows: bars judged.
        first: first day judged.
        last: last day judged.
    """

    indices: dict[str, float]
    moved: list[str]
    rows: int
    first: date
    last: date

    @property
    def is_judged(self) -> bool:
        return self.rows >= MIN_ROWS

    @property
    def is_alert(self) -> bool:
        return self.is_judged and len(self.moved) > ALERT_SHARE * len(self.indices)

    @property
    def sentence(self) -> str:
        if not self.is_judged:
            return f"{self.rows} bars from {self.first} to {self.last}: drift is judged from {MIN_ROWS} on"
        worst = f"; most {self.moved[0]}, index {self.indices[self.moved[0]]:.2f}" if self.moved else ""
        return f"{len(self.moved)} of {len(self.indices)} features moved from {self.first} to {self.last}{worst}"


def window_before(today: date) -> tuple[date, date]:
    """Return the first and last day to judge: whole days only, because a morning is not a small day."""
    return today - WINDOW, today - timedelta(days=1)


def drift_report(features: pl.DataFrame, bundle: Bundle, first: date, last: date) -> DriftReport:
    """Compare features of some days with the histograms in a bundle.

    Args:
        features: columns of the bundle's feature view, rows of the days.
        bundle: the champion's.
        first: first day that the rows may come from.
        last: last day.
    """
    reference = {name: bins for name, bins in bundle.features["columns"].items() if name not in ALWAYS_DEFINED}
    indices = population_stability(reference, feature_matrix(features, tuple(reference)), tuple(reference))
    return DriftReport(indices, drifted(indices), features.height, first, last)
