"""Aggregation of one symbol's ticks into 1-minute bars, and revisions of closed bars.

The open price is that of the earliest event time, the close price that of the latest. Ticks of equal event time are
ordered by arrival. Volumes are added in order of arrival; the last message to arrive is the bar's source message.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from surveillance_pipelines.contracts.market import Bar, BarStatus, MarketCentre, Tick

MINUTE_US: Final = 60_000_000


def bar_start_of(event_time: int) -> int:
    """Return the start of the minute that contains an instant."""
    return event_time - event_time % MINUTE_US


@dataclass(frozen=True, slots=True)
class Print:
    """A tick with its message id and receive time; ``size`` is its own volume even if the feed sends running totals."""

    tick: Tick
    size: float
    message_id: str
    received_at: int


@dataclass(slots=True)
class OpenBar:
    """The bar in progress of one symbol."""

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
    knowledge_time: int
    source_message_id: str

    @classmethod
    def start(cls, first: Print) -> "OpenBar":
        tick = first.tick
        return cls(
            tick.symbol, bar_start_of(tick.event_time), tick.price, tick.price, tick.price, tick.price, first.size, 1,
            tick.event_time, tick.event_time, first.received_at, first.message_id,
        )  # fmt: skip

    def add(self, print_: Print) -> None:
        """Add a tick of the same minute."""
        tick = print_.tick
        self.high = max(self.high, tick.price)
        self.low = min(self.low, tick.price)
        self.volume += print_.size
        self.trades += 1
        self.source_message_id = print_.message_id
        self.knowledge_time = max(self.knowledge_time, print_.received_at)
        if tick.event_time < self.first_event_time:
            self.first_event_time, self.open = tick.event_time, tick.price
        if tick.event_time >= self.event_time:
            self.event_time, self.close = tick.event_time, tick.price

    def to_bar(
        self, status: BarStatus, *, market_return: float, market_peers: int, market_centre: MarketCentre = "mean"
    ) -> Bar:
        """Return the current bar as revision 0."""
        return Bar(
            symbol=self.symbol,
            bar_start=self.bar_start,
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=self.volume,
            trades=self.trades,
            first_event_time=self.first_event_time,
            event_time=self.event_time,
            revision=0,
            bar_status=status,
            knowledge_time=self.knowledge_time,
            source_message_id=self.source_message_id,
            market_return=market_return,
            market_peers=market_peers,
            market_centre=market_centre,
        )


def revise(bar: Bar, late: Print) -> Bar:
    """Return the next revision of a closed bar, which includes one late tick."""
    tick = late.tick
    changes: dict[str, Any] = {}
    if tick.event_time < bar.first_event_time:
        changes = {"first_event_time": tick.event_time, "open": tick.price}
    if tick.event_time >= bar.event_time:
        changes |= {"event_time": tick.event_time, "close": tick.price}
    return replace(
        bar,
        high=max(bar.high, tick.price),
        low=min(bar.low, tick.price),
        volume=bar.volume + late.size,
        trades=bar.trades + 1,
        revision=bar.revision + 1,
        bar_status="revised",
        source_message_id=late.message_id,
        knowledge_time=max(bar.knowledge_time, late.received_at),
        **changes,
    )
