"""The input messages of the upgrade proof: one session of several symbols, in bursts, the same for every run.

A burst is sent at once and received as one micro-batch, and the next one follows only when the first is done. Event
times keep far from the instants at which the event clock closes bars. So two runs over these messages see them in the
same order and close the same bars between the same messages, whatever the speed of the machine.
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

The first is past the grace period of two seconds, so it lets the clock close every bar of the minute before. The last
leaves the proof 25 seconds to stop a drain run before the clock closes the bars in progress.
"""

UNKNOWN_SYMBOL: Final = "ZZZZ"
LATE_MINUTES: Final = 3
"""How many minutes before its burst a late tick traded: few enough for its bar to be revised."""
BATCH_SIZE: Final = 10
"""Messages that SQS takes in one call."""

_STEP: Final = timedelta(seconds=0.5)
"""Between the ticks of two symbols in a burst."""
_REPEAT: Final = timedelta(seconds=0.25)
"""Between two ticks of one symbol in a burst."""
_SKIPPED: Final = 0.06
"""Share of first ticks of a minute that are left out, so that the clock closes the symbol's bar before."""
_REPEATED: Final = 0.08
"""Share of ticks that are followed by a second one of the same symbol."""
_SHOCK_MINUTES: Final = 11
"""Every so many minutes two symbols have an anomaly each. More, or larger ones, would make every bar look strange."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute of a symbol, to be taken apart into ticks."""

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
        minute: of the session, from 0.
        number: of the burst within the minute.
        messages: in order.
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
    """An anomaly of one symbol in one minute: its bursts, the factor on the price and that on the volume."""

    bursts: tuple[int, ...]
    move: float
    volume: float


_LASTING: Final = (_Shock((1, 2, 3), 1.01, 15.0), _Shock((1, 2, 3), 0.99, 10.0), _Shock((1, 2, 3), 1.0, 30.0))
_REVERTING: Final = (_Shock((1, 2), 0.99, 1.0), _Shock((1, 2), 1.01, 1.0))
_NONE: Final = _Shock((), 1.0, 1.0)


def make_feed(minutes: Sequence[Mapping[str, Bar]], *, crossing: int, seed: int) -> list[Burst]:
    """Return the bursts of a session; the last minute has one burst, which closes the bars before.

    Args:
        minutes: of the session, each with the bars of all symbols.
        crossing: the minute in which the platform is upgraded: anomalies of three symbols begin in its second burst,
            and up to the end of the next minute each burst has one tick of every symbol.
        seed: of the ticks that are left out and of those that come twice.
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
    """Return the bursts with a late tick, a malformed message and one of an unknown symbol in a minute."""
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
    """Return the bursts with a message that was sent before, in the first burst of a minute."""
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
    """Yield one tick of every symbol, as the producer's contract has them."""
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
    """Return the ticks without some, and with some twice, a moment later; room is left for one message more."""
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
