"""The input messages of the upgrade proof: one session of six symbols, sent in bursts.

A burst is sent in one call, received as one micro-batch, and done before the next one is sent. No event time lies near
an instant at which the event clock closes bars. Therefore two runs receive these messages in the same order and close
the same bars between the same messages, at any speed of the machine.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

SYMBOLS: Final = ("AAPL", "AMZN", "GOOGL", "MSFT", "NVDA", "SPY")
OPENING: Final = datetime(2024, 1, 26, 14, 30, tzinfo=UTC)
"""Opening of the New York session after the days that the models are trained on."""

OFFSETS: Final = (5, 15, 25, 35)
"""Seconds of the minute at which bursts begin.

The first comes after the grace period of two seconds, so the clock then closes every bar of the minute before. After
the last one 25 seconds remain before the clock closes the bars in progress.
"""

UNKNOWN_SYMBOL: Final = "ZZZZ"
LATE_MINUTES: Final = 3
"""Age of a late tick in minutes: young enough for its bar to be revised."""
BATCH_SIZE: Final = 10
"""SQS's limit for a batch call."""

_STEP: Final = timedelta(seconds=0.5)
"""Between the ticks of two symbols in a burst."""
_REPEAT: Final = timedelta(seconds=0.25)
"""Between two ticks of one symbol in a burst."""
_SKIPPED: Final = 0.06
"""Share of the first ticks of a minute that are left out; the clock then closes the symbol's previous bar."""
_REPEATED: Final = 0.08
"""Share of ticks that are followed by a second one of the same symbol."""
_SHOCK_MINUTES: Final = 11
"""Interval between minutes with anomalies in two symbols; with more of them every bar would be anomalous."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute of a symbol, from which ticks are made."""

    open: float
    high: float
    low: float
    close: float
    volume: float

    def prices(self) -> tuple[float, float, float, float]:
        """Return the price of each burst: low and high in the order that a rising or a falling bar suggests."""
        between = (self.low, self.high) if self.close >= self.open else (self.high, self.low)
        return self.open, *between, self.close


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the input queue; the group is the symbol."""

    group: str
    body: str
    dedup_id: str


@dataclass(frozen=True, slots=True)
class Burst:
    """Messages that are sent together, ten at most.

    Attributes:
        minute: minute of the session, from 0.
        number: position within the minute, from 0.
        messages: messages in order.
    """

    minute: int
    number: int
    messages: tuple[Message, ...]

    def and_also(self, message: Message) -> "Burst":
        """Return the burst with one more message at its end."""
        if len(self.messages) == BATCH_SIZE:
            raise ValueError(f"expected room for a message in burst {self.number} of minute {self.minute}, it is full")
        return replace(self, messages=(*self.messages, message))


@dataclass(frozen=True, slots=True)
class _Shock:
    """An anomaly of one symbol in one minute: its bursts, a factor for the price and one for the volume."""

    bursts: tuple[int, ...]
    move: float
    volume: float


_LASTING: Final = (_Shock((1, 2, 3), 1.01, 15.0), _Shock((1, 2, 3), 0.99, 10.0), _Shock((1, 2, 3), 1.0, 30.0))
_REVERTING: Final = (_Shock((1, 2), 0.99, 1.0), _Shock((1, 2), 1.01, 1.0))
_NONE: Final = _Shock((), 1.0, 1.0)


def make_feed(minutes: Sequence[Mapping[str, Bar]], *, crossing: int, seed: int) -> list[Burst]:
    """Return the bursts of a session; the last minute has one burst, which closes the bars before.

    Args:
        minutes: the bars of all symbols for each minute of the session.
        crossing: minute of the upgrade. Anomalies of three symbols begin in its second burst; in it and in the next
            minute each burst has one tick of every symbol.
        seed: seed of the choice of ticks that are left out or repeated.
    """
    source = random.Random(seed)
    bursts: list[Burst] = []
    count = 0
    for minute, bars in enumerate(minutes):
        shocks = _shocks(minute, crossing, sorted(bars))
        is_plain = minute in (0, crossing, crossing + 1)
        for number in range(len(OFFSETS) if minute < len(minutes) - 1 else 1):
            ticks = [*_ticks(bars, shocks, minute, number)]
            if not is_plain:
                ticks = _uneven(ticks, source, may_skip=number == 0)
            named = enumerate(ticks, count)
            messages = tuple(Message(tick["symbol"], json.dumps(tick), f"tick-{place:05d}") for place, tick in named)
            count += len(messages)
            bursts.append(Burst(minute, number, messages))
    return bursts


def with_bad_input(bursts: Sequence[Burst], minute: int) -> list[Burst]:
    """Add a late tick, a malformed message and a tick of an unknown symbol to the bursts of a minute."""
    late_at = OPENING + timedelta(minutes=minute - LATE_MINUTES, seconds=50)
    found = []
    for burst in bursts:
        if burst.minute != minute or burst.number not in (1, 2, 3):
            found.append(burst)
            continue
        first = burst.messages[0]
        tick = json.loads(first.body)
        extra = {
            1: Message(first.group, json.dumps({**tick, "timestamp": late_at.isoformat()}), f"late-{minute}"),
            2: Message(first.group, json.dumps({**tick, "price": "n/a"}), f"malformed-{minute}"),
            3: Message(UNKNOWN_SYMBOL, json.dumps({**tick, "symbol": UNKNOWN_SYMBOL}), f"unknown-{minute}"),
        }
        found.append(burst.and_also(extra[burst.number]))
    return found


def with_repeat(bursts: Sequence[Burst], minute: int, message: Message) -> list[Burst]:
    """Add a message that was sent before to the first burst of a minute."""
    return [burst.and_also(message) if (burst.minute, burst.number) == (minute, 0) else burst for burst in bursts]


def _shocks(minute: int, crossing: int, symbols: Sequence[str]) -> dict[str, _Shock]:
    """Return the anomalies of a minute, by symbol."""
    if minute == crossing:
        return dict(zip(symbols, (_LASTING[0], _REVERTING[0], _LASTING[1]), strict=False))
    if minute == 0 or minute % _SHOCK_MINUTES:
        return {}
    turn = minute // _SHOCK_MINUTES
    lasting, reverting = symbols[turn % len(symbols)], symbols[(turn + 2) % len(symbols)]
    return {lasting: _LASTING[turn % len(_LASTING)], reverting: _REVERTING[turn % len(_REVERTING)]}


def _ticks(bars: Mapping[str, Bar], shocks: Mapping[str, _Shock], minute: int, number: int) -> Iterator[dict[str, Any]]:
    """Yield one tick of every symbol, in the format of the producer's contract."""
    begin = OPENING + timedelta(minutes=minute, seconds=OFFSETS[number])
    for index, (symbol, bar) in enumerate(sorted(bars.items())):
        shock = shocks.get(symbol, _NONE)
        move, factor = (shock.move, shock.volume) if number in shock.bursts else (1.0, 1.0)
        yield {
            "symbol": symbol,
            "price": round(bar.prices()[number] * move, 2),
            "volume": float(int(bar.volume / len(OFFSETS) * factor)),
            "timestamp": (begin + index * _STEP).isoformat(),
        }


def _uneven(ticks: Sequence[dict[str, Any]], source: random.Random, *, may_skip: bool) -> list[dict[str, Any]]:
    """Leave out some ticks and repeat others a moment later; the result has room for one more message."""
    found = []
    for place, tick in enumerate(ticks):
        skip, repeat = source.random(), source.random()
        if may_skip and place > 0 and skip < _SKIPPED:
            continue
        found.append(tick)
        if repeat < _REPEATED and len(found) + len(ticks) - place < BATCH_SIZE:
            again = datetime.fromisoformat(tick["timestamp"]) + _REPEAT
            found.append({**tick, "timestamp": again.isoformat()})
    return found
