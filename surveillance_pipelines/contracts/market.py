"""Ticks and bars: the words every lane shares.

A *tick* is one trade report. A *bar* summarises the ticks of one interval and is named by its start. Each knows when
it happened (``event_time``) and when the platform learned it (``knowledge_time``).
"""

from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

Source = Literal["sqs", "file", "yfinance", "simulated"]
BarStatus = Literal["provisional", "final", "revised"]
Timeframe = Literal["1m", "5m", "15m", "1h", "4h", "1d"]
Adjustment = Literal["none", "split", "split+dividend"]

SOURCE_PRECEDENCE: Final[tuple[Source, ...]] = ("sqs", "file", "yfinance", "simulated")
"""Who wins when two sources know the same bar: the recorded feed, then what the user handed over, then the vendor's
public copy; a simulated bar never replaces a real one."""

LANDED_TABLE: Final = "bars_landed"
"""Lake table of all bars as received from files, Yahoo Finance and the simulator."""
FIRST_DAY: Final = date(2008, 1, 1)
"""First day of every table by day; exchanges' minute bars are rarely kept further back."""

TIMEFRAME_MINUTES: Final[dict[Timeframe, int]] = {
    "1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440,
}  # fmt: skip


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
