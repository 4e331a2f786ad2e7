"""The peers' returns of symbols whose timestamps are far apart, and after a restart."""

from dataclasses import replace

import numpy as np
import pytest

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.engine.live_market import SPAN_US, SPANS, LiveMarket
from surveillance_pipelines.features.market import MarketContext
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, received, ticks
from surveillance_pipelines_tests.engine.test_engine import feed, make_engine


def peers_beside(ahead: int) -> dict[tuple[str, int], tuple[str, int]]:
    """Serve 120 minutes of three symbols, SPY with timestamps ahead; return the peers' returns of the others."""
    sent = [replace(tick, event_time=tick.event_time + ahead) if tick.symbol == "SPY" else tick for tick in ticks(120)]
    messages = [[received(tick, number)] for number, tick in enumerate(sent)]
    return peers_in([bar for bar in feed(make_engine(), messages).bars if bar.symbol != "SPY"])


def peers_in(bars: list[Bar]) -> dict[tuple[str, int], tuple[str, int]]:
    return {(bar.symbol, bar.bar_start): (repr(bar.market_return), bar.market_peers) for bar in bars}


@pytest.mark.parametrize("ahead", [65 * MINUTE, DAY_US])
def test_symbol_far_ahead_displaces_no_minute_of_its_peers(ahead):
    alone = [tick for tick in ticks(120) if tick.symbol != "SPY"]
    expected = peers_in(feed(make_engine(), [[received(tick, number)] for number, tick in enumerate(alone)]).bars)
    found = peers_beside(ahead)
    if ahead == DAY_US:
        assert found == expected
    before = {key: peers for key, (_, peers) in found.items() if OPEN + MINUTE < key[1] < OPEN + ahead}
    assert len(before) > 100
    assert set(before.values()) == {1}, "each has its peer"


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_one_feed_has_the_values_of_one_context(centre):
    rng, market, context = np.random.default_rng(1), LiveMarket(centre), MarketContext(centre=centre)
    names = [f"S{number}" for number in range(6)]
    for minute in range(100):
        for name in rng.permutation(names):
            if rng.random() < 0.8:
                step = float(rng.normal())
                for each in (market, context):
                    each.update(name, OPEN + minute * MINUTE, step)
        for name in names:
            at = OPEN + (minute + 1 - int(rng.integers(0, 50))) * MINUTE
            np.testing.assert_equal(market.value(name, at), context.value(name, at))


def test_restored_symbols_keep_the_newest_spans_in_any_order():
    recent = [(OPEN + minute * MINUTE, 0.01) for minute in range(8)]
    rare = [(OPEN - day * DAY_US, 0.02) for day in range(64, 0, -1)]
    for order in (("AAPL", recent), ("RARE", rare)), (("RARE", rare), ("AAPL", recent)):
        market = LiveMarket()
        for symbol, returns in order:
            market.seed(symbol, returns)
        assert market.value("SPY", OPEN + 8 * MINUTE) == (0.01, 1)
        assert market.value("SPY", OPEN - 64 * DAY_US + MINUTE)[1] == 0


def test_span_without_updates_is_dropped_first():
    market = LiveMarket()
    market.update("AAPL", OPEN, 0.01)
    for span in range(1, SPANS):
        market.update("MSFT", OPEN + span * SPAN_US, 0.01)
        market.update("AAPL", OPEN + MINUTE, 0.01)
    market.update("MSFT", OPEN + SPANS * SPAN_US, 0.01)
    assert market.value("SPY", OPEN + 2 * MINUTE) == (0.01, 1)
    assert market.value("SPY", OPEN + SPAN_US + MINUTE)[1] == 0
