"""Which feature values may not be: infinities anywhere, NaN where a feature is always defined."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from surveillance_pipelines.features.views import FeatureView

ALWAYS_DEFINED: Final = frozenset(
    {"minute_sin", "minute_cos", "session_progress", "in_session", "minutes_to_close", "new_session", "has_volume",
     "peers_present"}
)  # fmt: skip
"""Features of the clock and of presence. The others are NaN while their window fills, or without reported volume."""


@dataclass(frozen=True, slots=True)
class Finiteness:
    """What a table of features holds besides numbers.

    Attributes:
        infinite: column → infinite values, of the columns that have any.
        undefined: column → NaN or null, of the columns that may have none.
        nan_share: column → share of NaN, of the columns that have any and may.
    """

    infinite: dict[str, int]
    undefined: dict[str, int]
    nan_share: dict[str, float]

    @property
    def holds(self) -> bool:
        return not self.infinite and not self.undefined


def finiteness(features: pl.DataFrame, view: FeatureView) -> Finiteness:
    """Count the values of a feature table that are no numbers.

    Args:
        features: the columns of ``feature_schema(view)``.
        view: the view that the table holds.
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
