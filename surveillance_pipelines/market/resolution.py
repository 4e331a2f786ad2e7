"""One history out of several sources: who wins a bar, what is a revision, what only repeats."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.market import SOURCE_PRECEDENCE
from surveillance_pipelines.market.bar_frames import BAR_KEY, OHLC, to_bar_schema

_VALUES: Final = (*OHLC, "volume", "adjustment")
"""Two landings that agree in these say the same thing."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The bars to use, and what became of every other row: rows in = bars + duplicates + overruled + not yet known."""

    bars: pl.DataFrame
    duplicates: int
    overruled: int
    not_yet_known: int

    @property
    def rows_in(self) -> int:
        return self.bars.height + self.duplicates + self.overruled + self.not_yet_known


def resolve_bars(landed: pl.DataFrame, live: pl.DataFrame, *, as_of: int | None = None) -> Resolved:
    """Return one source per bar with its revisions, as known at an instant.

    - Of the sources that know a bar, the first in ``SOURCE_PRECEDENCE`` wins, with all its revisions; the rows of the
      others are overruled.
    - Bars of the live lane keep the revisions that it gave them.
    - For the other sources the first landing is revision 0; a later landing with other values is the next revision,
      one with the same values as the latest is a duplicate.

    Args:
        landed: ``BAR_SCHEMA``: files, Yahoo, simulated, in order of landing where knowledge times are equal.
        live: ``BAR_SCHEMA``: bars of the live lane, source ``sqs``.
        as_of: microseconds since the epoch; rows learned later do not exist. None for all.
    """
    rows = pl.concat([to_bar_schema(live), to_bar_schema(landed)]).with_row_index("row")
    known = rows if as_of is None else rows.filter(pl.col("knowledge_time") <= pl.lit(as_of).cast(UTC_MICROSECONDS))
    ranks = {name: place for place, name in enumerate(SOURCE_PRECEDENCE)}
    ranked = known.with_columns(rank=pl.col("source").replace_strict(ranks, return_dtype=pl.Int8))
    ordered = _with_bar_marks(ranked.sort(*BAR_KEY, "rank", "knowledge_time", "row"))
    # The first row of a bar has its best rank.
    winners = ordered.filter(pl.col("rank") == pl.when("is_new_bar").then("rank").forward_fill())
    kept = pl.concat([_numbered_by_the_live_lane(winners), _numbered_by_landing(winners)])
    return Resolved(
        bars=to_bar_schema(_with_status(kept)).sort(*BAR_KEY, "revision"),
        duplicates=winners.height - kept.height,
        overruled=known.height - winners.height,
        not_yet_known=rows.height - known.height,
    )


def bars_known_at(bars_1m: pl.DataFrame, landed: pl.DataFrame, as_of: int) -> Resolved:
    """Return the 1-minute bars that the lake would have held at an instant.

    Of ``bars_1m`` the live lane's rows are taken. All others are resolved anew from what landed, because a source that
    was overruled since may be the one that was known then.

    Args:
        bars_1m: ``BAR_SCHEMA``, as ``resolve_bars`` left them.
        landed: ``BAR_SCHEMA``, the rows of ``bars_landed`` of the same days, any timeframes.
        as_of: microseconds since the epoch.
    """
    live = bars_1m.filter(pl.col("source") == "sqs")
    return resolve_bars(landed.filter(pl.col("timeframe") == "1m"), live, as_of=as_of)


def without_repeats(fetched: pl.DataFrame, landed: pl.DataFrame) -> pl.DataFrame:
    """Return the bars of a fetch that say something else than the latest landing of their source, or something new.

    Args:
        fetched: ``BAR_SCHEMA``, one row per bar.
        landed: ``BAR_SCHEMA``, any sources, in order of landing where knowledge times are equal.
    """
    key = [*BAR_KEY, "source"]
    latest = landed.sort("knowledge_time", maintain_order=True).unique(key, keep="last")
    return fetched.join(latest, on=[*key, *_VALUES], how="anti", nulls_equal=True, maintain_order="left")


def _with_bar_marks(ordered: pl.DataFrame) -> pl.DataFrame:
    """Mark the first row of each bar in rows sorted by bar: several times faster than a window per bar."""
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
