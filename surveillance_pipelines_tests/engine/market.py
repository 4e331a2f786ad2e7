"""A small made-up market as queue messages, for the tests of the live lane."""

import math
from collections.abc import Iterable
from datetime import UTC, date, datetime

import numpy as np

from surveillance_pipelines.clock import MICROSECONDS, to_us
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.effects import Effects, StateRow
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.settings import Settings

OPEN = to_us(datetime(2024, 3, 5, 14, 30, tzinfo=UTC))
MINUTE = 60 * MICROSECONDS
SYMBOLS = ("AAPL", "MSFT", "SPY")


SESSION_ROWS = [
    ("XNYS", date(2024, 3, day), OPEN + (day - 5) * 1440 * MINUTE, OPEN + ((day - 5) * 1440 + 390) * MINUTE)
    for day in (4, 5, 6)
]
"""Three regular New York sessions around the made-up day."""


def sessions() -> SessionTable:
    return SessionTable.from_frame(session_rows(SESSION_ROWS))


def plain_settings(**values) -> Settings:
    """Return settings that no ``.env`` file reaches."""
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue]


def received(tick: Tick | str, number: int, *, dedup_id: str | None = None, lag_seconds: float = 0.2) -> Received:
    """Return a message as the queue would hand it over: 50 a second from the opening on."""
    body = tick if isinstance(tick, str) else encode_tick(tick)
    sent = OPEN + 2 * 1440 * MINUTE + number * 20_000
    return Received(
        message_id=f"m{number:06d}",
        body=body,
        group_id="SYM" if isinstance(tick, str) else tick.symbol,
        dedup_id=dedup_id or f"d{number:06d}",
        sequence_number=f"{number:020d}",
        sent_at=sent,
        received_at=sent + round(lag_seconds * MICROSECONDS),
        receive_count=1,
        receipt_handle=f"r{number:06d}",
    )


def ticks(minutes: int, *, symbols: tuple[str, ...] = SYMBOLS, seed: int = 7, spikes: bool = True) -> list[Tick]:
    """Return about three ticks a minute and symbol in order of event time, with a jump and a volume spike late on."""
    rng = np.random.default_rng(seed)
    prices = {symbol: 100.0 * (1 + i) for i, symbol in enumerate(symbols)}
    out: list[Tick] = []
    for minute in range(minutes):
        for symbol in symbols:
            odd = spikes and minute > 60 and minute % 17 == 0 and symbol == symbols[0]
            # The very last tick ends its minute, so that the event clock closes the last bar at once.
            seconds = [*rng.uniform(0, 59.8, 2), 59.9 if minute == minutes - 1 else rng.uniform(0, 59.8)]
            for second in sorted(seconds):
                prices[symbol] *= math.exp(rng.normal(0, 3e-4) + (0.01 if odd else 0.0))
                size = float(rng.integers(100, 400)) * (40 if odd else 1)
                event_time = OPEN + minute * MINUTE + round(second * MICROSECONDS)
                out.append(Tick(symbol, round(prices[symbol], 4), size, event_time))
    return sorted(out, key=lambda tick: (tick.event_time, tick.symbol))


def stream(minutes: int, **options) -> list[Received]:
    return [received(tick, i) for i, tick in enumerate(ticks(minutes, **options))]


_IN_ORDER = (
    "inbox",
    "outcomes",
    "redelivered",
    "dead_letters",
    "instruments",
    "bars",
    "clock_rows",
    "bundles",
    "breakers",
    "outputs",
    "seeds",
)


def merged(parts: Iterable[Effects]) -> Effects:
    """Return one ``Effects`` over several, in order; of a symbol's snapshots only the last of each name is kept.

    Seeds come in the order of symbols: which micro-batch hands them over is not an effect.
    """
    whole = Effects()
    states: dict[tuple[str, str], StateRow] = {}
    for part in parts:
        for name in _IN_ORDER:
            getattr(whole, name).extend(getattr(part, name))
        states.update({(row.symbol, row.name): row for row in part.states})
        whole.scored += part.scored
        whole.fallbacks += part.fallbacks
    whole.states = [states[key] for key in sorted(states)]
    whole.seeds.sort(key=lambda seed: seed.symbol)
    return whole
