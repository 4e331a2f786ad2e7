"""A session that a queue has missed, wherever it falls in a micro-batch, and a restart after it."""

import math
from dataclasses import replace

import pytest

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.engine import Engine
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.engine.snapshots import SERVING_STATE
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, merged, received
from surveillance_pipelines_tests.engine.test_engine import make_engine, tick


def vendor_bars(symbol: str) -> tuple[Bar, ...]:
    """The missed session as another source knows it: two minutes at a price of its own."""
    return tuple(
        Bar(
            symbol,
            start,
            60.0,
            61.0,
            59.0,
            60.5,
            500.0,
            5,
            start,
            start,
            0,
            "final",
            start,
            "",
            math.nan,
            0,
            "yfinance",
        )
        for start in (OPEN, OPEN + MINUTE)
    )


def feed(engine: Engine, batches: list[list[Received]], known: Known = Known()) -> Effects:  # noqa: B008 (frozen)
    """Feed as the shell does, with the vendor's bars before the event time asked for as history."""
    parts = []
    for batch in batches:
        readings = engine.read(batch)
        for _ in range(2):
            for symbol, event_time in engine.symbols_to_seed(readings).items():
                engine.seed(
                    symbol, Seed(bars=tuple(b for b in vendor_bars(symbol) if b.bar_start + MINUTE <= event_time))
                )
        parts.append(engine.process(readings, known))
    return merged(parts)


def messages() -> list[Received]:
    """Two symbols that trade in the session before the missed one and in the one after it."""
    trades = [
        *((symbol, minute - 1440) for minute in range(3) for symbol in ("AAPL", "SPY")),
        *((symbol, minute + 1440) for minute in range(3) for symbol in ("AAPL", "SPY")),
    ]
    return [received(tick(symbol, minute, 5, 100.0 + i), i) for i, (symbol, minute) in enumerate(trades)]


@pytest.mark.parametrize("sizes", [[12], [5, 7], [6, 6], [7, 5], [1, 11], [11, 1]])
def test_session_missed_anywhere_in_a_batch_gives_the_effects_of_single_messages(sizes):
    whole, batches = messages(), []
    expected = feed(make_engine(), [[message] for message in whole])
    for size in sizes:
        batches.append(whole[:size])
        whole = whole[size:]
    assert feed(make_engine(), batches) == expected
    second_after = next(b for b in expected.bars if b.symbol == "SPY" and b.bar_start == OPEN + DAY_US + MINUTE)
    assert second_after.market_return == pytest.approx(math.log(106.0 / 60.5))  # AAPL's, against the vendor's close


def test_redelivered_message_before_the_missed_session_changes_nothing():
    whole = messages()
    engine = make_engine()
    before = feed(engine, [whole[:6]])
    again = Known(frozenset({whole[5].message_id}))
    after = feed(engine, [whole[5:]], again)
    assert merged([before, replace(after, redelivered=[])]) == feed(make_engine(), [[message] for message in whole])


def test_restart_knows_the_returns_that_a_peer_still_asks_for():
    """One symbol is past the missed session already, its peer's last bar before it is still open."""
    trades = [("AAPL", 0), ("SPY", 0), ("AAPL", 1), ("SPY", 2), ("AAPL", 2880), ("SPY", 2880)]
    whole = [received(tick(symbol, minute - 1440, 5, 100.0 + i), i) for i, (symbol, minute) in enumerate(trades)]
    expected = feed(make_engine(), [[message] for message in whole])
    closed = next(bar for bar in expected.bars if bar.symbol == "SPY" and bar.bar_start == OPEN - DAY_US + 2 * MINUTE)
    assert closed.market_peers == 1

    before = feed(make_engine(), [[message] for message in whole[:5]])
    states = {(row.symbol, row.name): row.state for row in before.states}
    restarted = make_engine()
    for (symbol, name), serving in states.items():
        if name == SERVING_STATE:
            start = next(r.as_of_bar_start for r in before.states if (r.symbol, r.name) == (symbol, "core_v1")) or 0
            bars = tuple(bar for bar in before.bars if bar.symbol == symbol and bar.bar_start > start)
            revisable = tuple(bar for bar in before.bars if bar.symbol == symbol)
            restarted.seed(symbol, Seed(states[symbol, "core_v1"], serving, bars, revisable))
    after = feed(restarted, [whole[5:]])
    assert repr([*before.bars, *after.bars]) == repr(expected.bars)
