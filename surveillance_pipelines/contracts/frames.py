"""Columns and types of the frames that lanes hand to each other and keep in the lake.

Apart from the words they are made of, so that whoever needs the engine alone does not wait for polars to load.
"""

from collections.abc import Iterable
from datetime import date
from typing import Final

import polars as pl

UTC_MICROSECONDS: Final = pl.Datetime("us", "UTC")

BAR_SCHEMA: Final = pl.Schema(
    {
        "date": pl.Date,  # partition: UTC date of bar_start
        "symbol": pl.String,
        "timeframe": pl.String,
        "bar_start": UTC_MICROSECONDS,
        "open": pl.Float64,  # prices in the instrument's currency
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Float64,  # units traded; 0 means "no volume reported", see docs/market-data.md
        "trades": pl.Int64,  # ticks in the bar; null when the source does not say
        "source": pl.String,
        "adjustment": pl.String,
        "revision": pl.Int32,  # 0 is what was known when the bar closed
        "bar_status": pl.String,
        "event_time": UTC_MICROSECONDS,  # of the last tick in it; the bar's end when the source has only bars
        "knowledge_time": UTC_MICROSECONDS,
        "source_message_id": pl.String,
        "market_return": pl.Float64,  # as served; null when the bar was never served, then derived from the peers
        "market_peers": pl.Int32,
        "batch_id": pl.String,  # of the write that brought it
    }
)
"""Columns of ``bars_landed``, ``bars_1m`` and every resample of it."""

TICK_SCHEMA: Final = pl.Schema(
    {
        "date": pl.Date,  # partition: UTC date of event_time
        "symbol": pl.String,
        "event_time": UTC_MICROSECONDS,
        "price": pl.Float64,
        "volume": pl.Float64,
        "change": pl.Float64,
        "change_percent": pl.Float64,
        "source": pl.String,
        "source_message_id": pl.String,
        "knowledge_time": UTC_MICROSECONDS,
        "outcome": pl.String,  # the ledger's word: scored or late
    }
)
"""Columns of the lake table ``ticks``."""


def conform(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Return exactly the columns of a schema, in its order and types.

    Raises:
        polars.exceptions.PolarsError: if a column is absent or holds a value that its type cannot.
    """
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


SESSION_SCHEMA: Final = pl.Schema(
    {"calendar": pl.String, "session_date": pl.Date, "opens_at": UTC_MICROSECONDS, "closes_at": UTC_MICROSECONDS}
)
"""One row per calendar and session; ``closes_at`` is the first instant after the session. Lunch breaks are inside."""


def session_rows(rows: Iterable[tuple[str, date, int, int]]) -> pl.DataFrame:
    """Return ``(calendar, session date, opens µs, closes µs)`` rows as a frame of ``SESSION_SCHEMA``."""
    schema = {"calendar": pl.String, "session_date": pl.Date, "opens_at": pl.Int64, "closes_at": pl.Int64}
    return conform(pl.DataFrame(list(rows), schema=schema, orient="row"), SESSION_SCHEMA)
