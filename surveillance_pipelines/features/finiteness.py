"""Quality of feature tables: infinite values, and NaN in features that are always defined."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from surveillance_pipelines.features.views import FeatureView

ALWAYS_DEFINED: Final = frozenset(
    {"minute_sin", "minute_cos", "session_progress", "in_session", "minutes_to_close", "new_session", "has_volume",
     "peers_present"}
)  # fmt: skip
"""Features that depend on the clock or on presence only. Others are NaN while their window fills or without volume."""


@dataclass(frozen=True, slots=True)
class Finiteness:
    """Counts of non-finite values of a feature table.

    Attributes:
        infinite: column → number of infinite values, for columns that have any.
        undefined: column → number of NaN or null values, for always-defined columns that have any.
        nan_share: column → share of NaN or null values, for other columns that have any.
    """

    infinite: dict[str, int]
    undefined: dict[str, int]
    nan_share: dict[str, float]

    @property
    def holds(self) -> bool:
        return not self.infinite and not self.undefined


def finiteness(features: pl.DataFrame, view: FeatureView) -> Finiteness:
    """Count the non-finite values of a feature table.

    Args:
        features: frame with the columns of ``feature_schema(view)``.
        view: feature view of the table.
    """
    columns = list(view.columns)
    infinite = features.select(pl.col(columns).is_infinite().sum()).row(0, named=True)
    missing = features.select((pl.col(columns).is_nan() | pl.col(columns).is_null()).sum()).row(0, named=True)
    rows = max(features.height, 1)
    return Finiteness(
        infinite={name: count for name, count in infinite.items() if count},
        undefined={name: count for name, count in missing.items() if count and name in ALWAYS_DEFINED},
        nan_share={name: count / rows for name, count in missing.items() if count and name not in ALWAYS_DEFINED},
    )
