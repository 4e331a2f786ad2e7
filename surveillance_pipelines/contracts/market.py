"""Ticks and bars, the types shared by all lanes.

A *tick* is one trade report. A *bar* summarises the ticks of one interval and is identified by its start. Both have the
time of the event (``event_time``) and the time at which the platform learned it (``knowledge_time``).
"""

from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

Source = Literal["sqs", "file", "yfinance", "simulated"]
BarStatus = Literal["provisional", "final", "revised"]
Timeframe = Literal["1m", "5m", "15m", "1h", "4h", "1d"]
Adjustment = Literal["none", "split", "split+dividend"]
EpochUnit = Literal["s", "ms", "us", "ns"]
DateOrder = Literal["dmy", "mdy"]
BarStamp = Literal["start", "end"]
"""Which instant of a bar its time is."""
MarketCentre = Literal["mean", "median"]
"""Which centre of the peers' returns a ``market_return`` is."""

SOURCE_PRECEDENCE: Final[tuple[Source, ...]] = ("sqs", "file", "yfinance", "simulated")
"""Precedence of sources with the same bar: the live feed, then files of the user, then the vendor's public data. A
simulated bar never replaces a real one."""

LANDED_TABLE: Final = "bars_landed"
"""Lake table of all bars as received from files, Yahoo Finance and the simulator."""
FIRST_DAY: Final = date(2008, 1, 1)
"""First day of all daily partitions; minute bars of exchanges are rarely available for earlier days."""

TIMEFRAME_MINUTES: Final[dict[Timeframe, int]] = {
    "1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tick:
    """One decoded and validated market message (SCH-01). Instants are microseconds since the epoch, UTC."""

    symbol: str
    price: float
    volume: float
    event_time: int
    change: float | None = None
    change_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Reason for a refused input: a stable code, and a sentence with the expected and the received value."""

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
    market_return: float  # NaN if no peer had a bar in the previous minute
    market_peers: int
    source: Source = "sqs"
    market_centre: MarketCentre = "mean"
