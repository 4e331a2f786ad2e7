"""Ticks and bars: the words every lane shares.

A *tick* is one trade report. A *bar* summarises the ticks of one interval and is named by its start. Each knows when
it happened (``event_time``) and when the platform learned it (``knowledge_time``).
"""

from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

Source = Literal["sqs", "file", "yfinance", "simulated"]
BarStatus = Literal["provisional", "final", "revised"]
Timeframe = Literal["1m", "5m", "15m", "1h", "4h", "1d"]
Adjustment = Literal["none", "split", "split+dividend"]

SOURCE_PRECEDENCE: Final[tuple[Source, ...]] = ("sqs", "file", "yfinance", "simulated")
"""Who wins when two sources know the same bar: the recorded feed, then what the user handed over, then the vendor's
public copy; a simulated bar never replaces a real one."""

TIMEFRAME_MINUTES: Final[dict[Timeframe, int]] = {
    "1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440,
}  # fmt: skip

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


@dataclass(frozen=True, slots=True)
class Tick:
    """One market message (SCH-01), decoded and within bounds. Instants are microseconds since the epoch, UTC."""

    symbol: str
    price: float
    volume: float
    event_time: int
    change: float | None = None
    change_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an input was not accepted: a stable code, and a sentence that says what was expected and what came."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One 1-minute bar of the live lane. Instants are microseconds since the epoch, UTC."""

    symbol: str
    bar_start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    trades: int
    first_event_time: int
    event_time: int
    revision: int
    bar_status: BarStatus
    knowledge_time: int
    source_message_id: str
    market_return: float  # NaN when no peer had a bar the minute before
    market_peers: int
    source: Source = "sqs"
