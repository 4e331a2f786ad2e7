"""Resolution of several sources to one history: precedence of sources, revisions and duplicates."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.market import SOURCE_PRECEDENCE
from surveillance_pipelines.market.bar_frames import BAR_KEY, OHLC, to_bar_schema

_VALUES: Final = (*OHLC, "volume", "adjustment")
"""Landings of a bar that agree in these columns are duplicates."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The bars to use, and counts of all other rows: rows in = bars + duplicates + overruled + not yet known."""

    bars: pl.DataFrame
    duplicates: int
    overruled: int
    not_yet_known: int

    @property
    def rows_in(self) -> int:
        return self.bars.height + self.duplicates + self.overruled + self.not_yet_known


def resolve_bars(landed: pl.DataFrame, live: pl.DataFrame, *, as_of: int | None = None) -> Resolved:
    """Return one source per bar with its revisions, as known at an instant.

    - Of the sources that have a bar, the first in ``SOURCE_PRECEDENCE`` is used with all its revisions; the rows of the
      others are overruled.
    - Bars of the live lane keep their revision numbers.
    - For the other sources, the first landing is revision 0. A later landing with different values is the next
      revision; one that repeats the latest values is a duplicate.

    Args:
        landed: ``BAR_SCHEMA``: files, Yahoo, simulated; rows with equal knowledge times in order of landing.
        live: ``BAR_SCHEMA``: bars of the live lane, source ``sqs``.
        as_of: microseconds since the epoch; rows that became known later are ignored. None uses all rows.
    """
    rows = pl.concat([to_bar_schema(live), to_bar_schema(landed)]).with_row_index("row")
    known = rows if as_of is None else rows.filter(pl.col("knowledge_time") <= pl.lit(as_of).cast(UTC_MICROSECONDS))
    ranks = {name: place for place, name in enumerate(SOURCE_PRECEDENCE)}
    ranked = known.with_columns(rank=pl.col("source").replace_strict(ranks, return_dtype=pl.Int8))
    ordered = _with_bar_marks(ranked.sort(*BAR_KEY, "rank", "knowledge_time", "row"))
    # The first row of a bar has the highest precedence.
    winners = ordered.filter(pl.col("rank") == pl.when("is_new_bar").then("rank").forward_fill())
    kept = pl.concat([_numbered_by_the_live_lane(winners), _numbered_by_landing(winners)])
    return Resolved(
        bars=to_bar_schema(_with_status(kept)).sort(*BAR_KEY, "revision"),
        duplicates=winners.height - kept.height,
        overruled=known.height - winners.height,
        not_yet_known=rows.height - known.height,
    )


def bars_known_at(bars_1m: pl.DataFrame, landed: pl.DataFrame, as_of: int) -> Resolved:
    """Return the 1-minute bars that the lake contained at an instant.

    The live lane's rows come from ``bars_1m``. All others are resolved again from ``landed``, because a source that has
    been overruled since may have been the only one at that instant.

    Args:
        bars_1m: ``BAR_SCHEMA``, result of ``resolve_bars``.
        landed: ``BAR_SCHEMA``, the rows of ``bars_landed`` of the same days, any timeframes.
        as_of: microseconds since the epoch.
    """
    live = bars_1m.filter(pl.col("source") == "sqs")
    return resolve_bars(landed.filter(pl.col("timeframe") == "1m"), live, as_of=as_of)


def without_repeats(fetched: pl.DataFrame, landed: pl.DataFrame) -> pl.DataFrame:
    """Return the fetched bars that are new or differ from the latest landing of their source.

    Args:
        fetched: ``BAR_SCHEMA``, one row per bar.
        landed: ``BAR_SCHEMA``, any sources; rows with equal knowledge times in order of landing.
    """
    key = [*BAR_KEY, "source"]
    latest = landed.sort("knowledge_time", maintain_order=True).unique(key, keep="last")
    return fetched.join(latest, on=[*key, *_VALUES], how="anti", nulls_equal=True, maintain_order="left")


def _with_bar_marks(ordered: pl.DataFrame) -> pl.DataFrame:
    """Mark the first row of each bar in rows sorted by bar; several times faster than a window expression."""
    is_same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in BAR_KEY)
    return ordered.with_columns(is_new_bar=~is_same.fill_null(value=False))


def _numbered_by_the_live_lane(winners: pl.DataFrame) -> pl.DataFrame:
    served = winners.filter(pl.col("source") == "sqs")
    return served.unique([*BAR_KEY, "revision"], keep="first", maintain_order=True)


def _numbered_by_landing(winners: pl.DataFrame) -> pl.DataFrame:
    landings = winners.filter(pl.col("source") != "sqs")
    repeats = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in _VALUES)
    distinct = landings.filter(pl.col("is_new_bar") | ~repeats)
    place = pl.int_range(pl.len(), dtype=pl.Int32)
    return distinct.with_columns((place - pl.when("is_new_bar").then(place).forward_fill()).alias("revision"))


def _with_status(bars: pl.DataFrame) -> pl.DataFrame:
    first = pl.col("revision") == 0
    return bars.with_columns(bar_status=pl.when(first).then(pl.lit("final")).otherwise(pl.lit("revised")))
