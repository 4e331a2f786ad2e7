"""Time-ordered splits: training days first, then validation days, then test days."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import polars as pl

from surveillance_pipelines.contracts.errors import TooLittleDataError

FRACTIONS: Final = (0.6, 0.2, 0.2)
"""Shares of the bars for train, validation and test."""

PURGE_BARS: Final = 64
"""Bars of each symbol dropped after a boundary. The kernel's longest window covers 60 bars plus up to 4, so the windows
of a kept row contain no bar of the previous split. Exponential averages have less than 1% of their weight beyond
(Wilder's: (13/14)^64). This also exceeds the direction's horizon, whose labels never leave their day."""

SPLITS: Final = ("train", "validation", "test")


def split_days(rows_per_day: Mapping[date, int], fractions: Sequence[float] = FRACTIONS) -> dict[date, str]:
    """Return the split of each day: whole days in order, each split as close to its share of the rows as possible.

    Args:
        rows_per_day: number of bars on each day.
        fractions: shares for train, validation and test, which sum to 1.

    Raises:
        TooLittleDataError: if there are fewer than three days.
        ValueError: if the fractions do not sum to 1.
    """
    days = sorted(rows_per_day)
    if len(days) < len(SPLITS):
        raise TooLittleDataError(f"expected bars of at least {len(SPLITS)} days to split, got {len(days)}")
    if abs(sum(fractions) - 1.0) > 1e-9 or min(fractions) <= 0:
        raise ValueError(f"expected three positive fractions that sum to 1, got {tuple(fractions)}")
    total = sum(rows_per_day.values())
    counts = [sum(rows_per_day[day] for day in days[:n]) / total for n in range(len(days) + 1)]
    first = _closest(counts, fractions[0], range(1, len(days) - 1))
    second = _closest(counts, fractions[0] + fractions[1], range(first + 1, len(days)))
    return {day: SPLITS[(n >= first) + (n >= second)] for n, day in enumerate(days)}


def assign_splits(rows: pl.DataFrame, fractions: Sequence[float] = FRACTIONS, purge: int = PURGE_BARS) -> pl.DataFrame:
    """Return ``rows`` with a column ``split``: train, validation, test, or ``purged`` just after a boundary.

    Args:
        rows: columns symbol, date, bar_start; each symbol and bar_start once.
        fractions: shares for train, validation and test.
        purge: number of bars of each symbol to drop after a boundary, if the symbol has bars before it.
    """
    per_day = dict(rows.group_by("date").len().iter_rows())
    days = split_days(per_day, fractions)
    order = {name: n for n, name in enumerate(SPLITS)}
    placed = rows.with_columns(split=pl.col("date").replace_strict(days, return_dtype=pl.String))
    number = pl.col("split").replace_strict(order, return_dtype=pl.Int8)
    ordered = pl.col("bar_start").rank("ordinal").over("symbol", "split")
    has_past = number > number.min().over("symbol")
    return placed.with_columns(
        split=pl.when(has_past & (ordered <= purge)).then(pl.lit("purged")).otherwise(pl.col("split"))
    )


def _closest(values: Sequence[float], wanted: float, candidates: range) -> int:
    return min(candidates, key=lambda n: abs(values[n] - wanted))
