"""What the producers of a schedule send, and what the lake knows: a small, dirty market, by number.

Markets with even numbers keep a closing grace of ten years, so the event clock closes no bar and a fault-free run of
the same inputs must give the same rows. In odd ones the clock closes bars as in production; which bar a reading closes
depends on when it is read, so there the readings count as recorded inputs.

One market in four is a live feed: its ticks are about as old as their messages. In one of three, the timestamps of one
producer run up to four minutes ahead of the others'.
"""

import math
import random
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Final

from surveillance_pipelines.clock import DAY_US, MICROSECONDS
from surveillance_pipelines.contracts.market import Bar, Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.engine import Engine, EngineConfig, engine_config
from surveillance_pipelines.engine.scoring_rows import with_predictor
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.stores.outbox import Published
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, plain_settings, sessions
from surveillance_pipelines_tests.simulation.scorer import BUNDLES, TinyPredictor

MARKETS: Final = 128
RECORDED_START: Final = OPEN + 2 * DAY_US
"""When the schedule of a recorded market begins: two days after it."""

SYMBOLS: Final = ("AAPL", "MSFT", "NVDA", "SPY")
NEVER_US: Final = 3650 * DAY_US


@dataclass(frozen=True, slots=True)
class Market:
    """Inputs of a schedule.

    Attributes:
        number: decides all the rest.
        start: when the schedule begins.
        sends: instant of sending and message, ascending.
        lake: symbol → bars of other sources.
        config: the engine's knobs.
        publish: which rows go to the output queue.
        promotions: instant and hash of bundles promoted meanwhile; only where the clock closes bars, because which
            message is the first of a bundle depends on when the promotion is noticed.
    """

    number: int
    start: int
    sends: tuple[tuple[int, SendEntry], ...]
    lake: dict[str, tuple[Bar, ...]]
    config: EngineConfig
    publish: Published
    promotions: tuple[tuple[int, str], ...] = ()

    @property
    def clock_closes(self) -> bool:
        """Whether the event clock closes bars."""
        return self.config.bar_close_grace < NEVER_US

    def engine(self, instruments: dict[str, str], bundle_hash: str = BUNDLES[0]) -> Engine:
        """Return a fresh engine, as a process starts with."""
        scorer = TinyPredictor(bundle_hash)
        config = replace(self.config, rows=with_predictor(self.config.rows, scorer))
        return Engine(config, scorer, session_table(), {*SYMBOLS, *instruments})


@cache
def session_table() -> SessionTable:
    return sessions()


@cache
def base_config() -> EngineConfig:
    return engine_config(plain_settings(), TinyPredictor(), run_id="run-1")


@lru_cache(maxsize=MARKETS)
def market(number: int) -> Market:
    """Return the market of a number."""
    rng = random.Random(f"market {number}")
    symbols = rng.sample(list[str](SYMBOLS), rng.randint(2, len(SYMBOLS)))
    misses_session = rng.random() < 0.25
    cumulative = rng.random() < 0.2
    count = rng.randint(12, 26)
    live = not misses_session and rng.random() < 0.33
    start = OPEN if live else RECORDED_START
    if live:
        ticks = _live_ticks(rng, symbols, count, cumulative=cumulative)
    else:
        ticks = _ticks(rng, symbols, count, misses_session=misses_session, cumulative=cumulative)
    if rng.random() < 0.33:
        ticks = _skewed(rng, ticks, rng.choice(symbols))
    draw = rng.random()
    publish: Published = "scores" if draw < 0.2 else "incidents" if draw > 0.8 else "alerts"
    config = replace(
        base_config(),
        provisional_scores=publish == "scores",
        bar_close_grace=2 * MICROSECONDS if number % 2 else NEVER_US,
        volume_is_cumulative=cumulative,
        unknown_symbols=rng.choice(("refuse", "register")),
    )
    return Market(
        number,
        start,
        tuple(sorted(_sends(rng, ticks, start), key=lambda send: send[0])),
        _lake(rng, symbols, misses_session=misses_session),
        config,
        publish,
        _promotions(rng, start) if number % 2 else (),
    )


def _promotions(rng: random.Random, start: int) -> tuple[tuple[int, str], ...]:
    seconds = sorted(rng.uniform(0.0, 200.0) for _ in range(rng.choice((0, 1, 2))))
    return tuple((start + round(second * MICROSECONDS), BUNDLES[1 - i % 2]) for i, second in enumerate(seconds))


def _ticks(
    rng: random.Random, symbols: list[str], count: int, *, misses_session: bool, cumulative: bool
) -> list[tuple[float, Tick]]:
    """Return ticks with the second at which each is sent, counted from the start."""
    prices = {symbol: 50.0 * (1 + i) for i, symbol in enumerate(symbols)}
    totals = dict.fromkeys(symbols, 0.0)
    pace = rng.choice((0.3, 2.0, 8.0))  # seconds between sends: a backlog, a replay at speed, a live feed
    begin = OPEN - DAY_US if misses_session else OPEN
    jump_at = rng.randint(count // 3, 2 * count // 3) if misses_session else count
    out: list[tuple[float, Tick]] = []
    event, second = begin, 0.0
    for i in range(count):
        if i == jump_at:
            event += 2 * DAY_US
        event += round(rng.expovariate(1 / 12.0) * MICROSECONDS)
        second += rng.expovariate(1 / pace)
        symbol = rng.choice(symbols)
        prices[symbol] *= math.exp(rng.gauss(0.0, 0.002) + (0.01 if rng.random() < 0.1 else 0.0))
        size = float(rng.randint(1, 400))
        totals[symbol] += size
        late = round(rng.uniform(20, 240) * MICROSECONDS) if rng.random() < 0.07 else 0
        volume = totals[symbol] if cumulative else size
        out.append((second, Tick(symbol, round(prices[symbol], 4), volume, event - late)))
    return out


def _live_ticks(rng: random.Random, symbols: list[str], count: int, *, cumulative: bool) -> list[tuple[float, Tick]]:
    """Return the ticks of a live feed, sent up to two seconds after their event, over several minutes."""
    prices = {symbol: 50.0 * (1 + i) for i, symbol in enumerate(symbols)}
    totals = dict.fromkeys(symbols, 0.0)
    out: list[tuple[float, Tick]] = []
    second = 2.0
    for _ in range(count):
        second += rng.expovariate(1 / 8.0)
        symbol, size = rng.choice(symbols), float(rng.randint(1, 400))
        prices[symbol] *= math.exp(rng.gauss(0.0, 0.002))
        totals[symbol] += size
        event = OPEN + round((second - rng.uniform(0.0, 2.0)) * MICROSECONDS)
        out.append((second, Tick(symbol, round(prices[symbol], 4), totals[symbol] if cumulative else size, event)))
    return out


def _skewed(rng: random.Random, ticks: list[tuple[float, Tick]], symbol: str) -> list[tuple[float, Tick]]:
    """Return the ticks with the timestamps of one symbol, which has one producer, moved ahead."""
    ahead = round(rng.uniform(60.0, 240.0) * MICROSECONDS)
    return [
        (second, replace(tick, event_time=tick.event_time + ahead) if tick.symbol == symbol else tick)
        for second, tick in ticks
    ]


def _sends(rng: random.Random, ticks: list[tuple[float, Tick]], start: int) -> list[tuple[int, SendEntry]]:
    sends: list[tuple[int, SendEntry]] = []

    def send(second: float, body: str, group: str, dedup_id: str) -> None:
        sends.append((start + round(second * MICROSECONDS), SendEntry(body, group, dedup_id)))

    for i, (second, tick) in enumerate(ticks):
        body, dedup_id = encode_tick(tick), f"trade-{i:04d}"
        send(second, body, tick.symbol, dedup_id)
        luck = rng.random()
        if luck < 0.04:  # the producer is unsure and sends again, SQS remembers
            send(second + 60.0, body, tick.symbol, dedup_id)
        elif luck < 0.08:  # … and SQS has forgotten
            send(second + 400.0, body, tick.symbol, dedup_id)
        elif luck < 0.11:
            send(second, rng.choice(("{", "[]", "", body[:-1] + ',"price":0}')), tick.symbol, f"broken-{i:04d}")
        elif luck < 0.13:
            send(second, encode_tick(replace(tick, symbol="NEWCO")), "NEWCO", f"new-{i:04d}")
    return sends


def _lake(rng: random.Random, symbols: list[str], *, misses_session: bool) -> dict[str, tuple[Bar, ...]]:
    """Return history before the first tick for some symbols, and the session that the queue misses."""
    lake: dict[str, tuple[Bar, ...]] = {}
    for symbol in symbols:
        starts = range(OPEN - DAY_US - 40 * MINUTE, OPEN - DAY_US, MINUTE) if rng.random() < 0.4 else range(0)
        missed = range(OPEN, OPEN + rng.randint(3, 25) * MINUTE, MINUTE) if misses_session else range(0)
        lake[symbol] = tuple(_bar(rng, symbol, start) for start in (*starts, *missed))
    return lake


def _bar(rng: random.Random, symbol: str, start: int) -> Bar:
    price = 60.0 * math.exp(rng.gauss(0.0, 0.002))
    return Bar(
        symbol, start, price, price * 1.001, price * 0.999, price, float(rng.randint(10, 900)), 5, start,
        start + MINUTE - 1, 0, "final", start + MINUTE, "", math.nan, 0, "yfinance",
    )  # fmt: skip
