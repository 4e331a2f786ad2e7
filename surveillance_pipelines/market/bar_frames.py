"""Conversion of bars from any source to the columns of ``BAR_SCHEMA``."""

from typing import Final

import polars as pl

from surveillance_pipelines.contracts.frames import BAR_SCHEMA, UTC_MICROSECONDS, conform
from surveillance_pipelines.contracts.market import TIMEFRAME_MINUTES, Adjustment, Source, Timeframe

BAR_KEY: Final = ("symbol", "timeframe", "bar_start")
"""Key of a bar, shared by its revisions."""
OHLC: Final = ("open", "high", "low", "close")


def complete_bars(
    frame: pl.DataFrame,
    *,
    source: Source,
    adjustment: Adjustment,
    timeframe: Timeframe,
    batch_id: str,
    knowledge_time: int | pl.Expr | None = None,
) -> pl.DataFrame:
    """Return bars with every column of ``BAR_SCHEMA``, sorted by symbol and start.

    Args:
        frame: at least ``symbol``, ``bar_start`` (UTC), OHLC and ``volume``; optionally ``trades`` and
            ``source_message_id``.
        source: source of the bars.
        adjustment: adjustment of the prices.
        timeframe: length of every bar in the frame.
        batch_id: id of the write that adds the bars.
        knowledge_time: when the platform learned the bars, in microseconds since the epoch or as a column; None means
            each bar's end, as with a feed that delivers on time.
    """
    ends = pl.col("bar_start") + pl.duration(minutes=TIMEFRAME_MINUTES[timeframe])
    learned = pl.lit(knowledge_time) if isinstance(knowledge_time, int) else knowledge_time
    known = ends if learned is None else learned.cast(UTC_MICROSECONDS)
    derived = {
        "date": pl.col("bar_start").dt.date(),
        "timeframe": pl.lit(timeframe),
        "source": pl.lit(source),
        "adjustment": pl.lit(adjustment),
        "revision": pl.lit(0),
        "bar_status": pl.lit("final"),
        "event_time": ends,
        "knowledge_time": known,
        "batch_id": pl.lit(batch_id),
    }
    optional = ("trades", "source_message_id", "market_return", "market_peers", "market_centre")
    absent = {name: pl.lit(None) for name in optional if name not in frame.columns}
    whole = frame.with_columns(pl.col("bar_start").cast(UTC_MICROSECONDS)).with_columns(**derived, **absent)
    return to_bar_schema(whole).sort("symbol", "bar_start")


def to_bar_schema(frame: pl.DataFrame) -> pl.DataFrame:
    """Return exactly the columns of ``BAR_SCHEMA``, in its order and with its types."""
    return conform(frame, BAR_SCHEMA)


def empty_bars() -> pl.DataFrame:
    """Return an empty frame with the columns of ``BAR_SCHEMA``."""
    return BAR_SCHEMA.to_frame()
