"""Schemas of the frames that the lanes exchange and store in the lake.

Separate from ``contracts.market``, so that the engine does not import polars.
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
        "trades": pl.Int64,  # ticks in the bar; null if the source does not report it
        "source": pl.String,
        "adjustment": pl.String,
        "revision": pl.Int32,  # 0 is the bar as known when it closed
        "bar_status": pl.String,
        "event_time": UTC_MICROSECONDS,  # of the last tick; the end of the bar if the source provides only bars
        "knowledge_time": UTC_MICROSECONDS,
        "source_message_id": pl.String,
        "market_return": pl.Float64,  # as served; null if the bar was never served, then derived from the peers
        "market_peers": pl.Int32,
        "batch_id": pl.String,  # id of the write that added the row
        "market_centre": pl.String,  # mean or median: what the served market_return is; null means "mean" if served
    }
)
"""Columns of ``bars_landed``, ``bars_1m`` and the resampled bars."""

LATER_COLUMNS: Final = frozenset({"market_centre"})
"""Nullable columns that tables of earlier releases lack. The next write adds them; before it, they are read as null."""

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
        "outcome": pl.String,  # outcome in the ledger: scored or late
    }
)
"""Columns of the lake table ``ticks``."""


def conform(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Return exactly the columns of a schema, in its order and with its types.

    Raises:
        polars.exceptions.PolarsError: if a column is missing or a value cannot be cast.
    """
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


SESSION_SCHEMA: Final = pl.Schema(
    {"calendar": pl.String, "session_date": pl.Date, "opens_at": UTC_MICROSECONDS, "closes_at": UTC_MICROSECONDS}
)
"""One row per calendar and session; ``closes_at`` is the first instant after the session. Lunch breaks are included."""


def session_rows(rows: Iterable[tuple[str, date, int, int]]) -> pl.DataFrame:
    """Return ``(calendar, session date, opens µs, closes µs)`` rows as a frame of ``SESSION_SCHEMA``."""
    schema = {"calendar": pl.String, "session_date": pl.Date, "opens_at": pl.Int64, "closes_at": pl.Int64}
    return conform(pl.DataFrame(list(rows), schema=schema, orient="row"), SESSION_SCHEMA)
