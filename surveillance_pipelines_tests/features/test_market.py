import math

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.features.inputs import market_context
from surveillance_pipelines.features.market import MINUTE_US, MarketContext, log_returns
from surveillance_pipelines_tests.features.bars import market_bars, same_bits

SYMBOLS = ("BBB", "AAA", "Äb", "a.HK", "^VIX", "BTC/USD")


def live_context(bars: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Feed bars minute by minute, with the symbols in random order, as in a live engine."""
    frame = bars.with_columns(rank=pl.col("symbol").rank("dense").cast(pl.Int64)).with_row_index()
    returns = log_returns(frame["rank"].to_numpy(), frame["close"].to_numpy())
    context, means, peers = MarketContext(), np.empty(len(bars)), np.empty(len(bars))
    starts, symbols = frame["bar_start"].dt.timestamp("us").to_list(), frame["symbol"].to_list()
    order = np.lexsort((np.random.default_rng(0).random(len(bars)), np.array(starts)))
    for i in order.tolist():
        means[i], peers[i] = context.value(symbols[i], starts[i])
        context.update(symbols[i], starts[i], float(returns[i]))
        assert context.value(symbols[i], starts[i])[1] == peers[i]  # the bar itself is not a peer
    return means, peers


@pytest.mark.requirement("FE-08")
def test_live_context_equals_the_frame_bit_for_bit() -> None:
    bars = market_context(market_bars(seed=11, count=400, symbols=SYMBOLS))
    means, peers = live_context(bars)
    assert same_bits(means, bars["market_return"].to_numpy())
    assert peers.tolist() == bars["market_peers"].to_list()
    assert set(bars["market_peers"].unique()) >= {0, 1, 2, 3}


@pytest.mark.requirement("FE-08")
def test_market_return_is_the_mean_of_the_others_one_minute_before() -> None:
    bars = market_context(market_bars(seed=12, count=200))
    returns = bars.with_columns(r=(pl.col("close") / pl.col("close").shift()).log().over("symbol"))
    before = returns.select("r", peer="symbol", bar_start=pl.col("bar_start") + pl.duration(minutes=1))
    pairs = bars.join(before, on="bar_start").filter((pl.col("peer") != pl.col("symbol")) & pl.col("r").is_not_null())
    expected = pairs.group_by("symbol", "bar_start").agg(mean=pl.col("r").mean(), count=pl.len())
    joined = bars.join(expected, on=["symbol", "bar_start"], how="left").sort("symbol", "bar_start")
    assert joined["market_peers"].to_list() == joined["count"].fill_null(0).to_list()
    np.testing.assert_allclose(joined["market_return"], joined["mean"].fill_null(np.nan).to_numpy(), atol=1e-15)


def test_value_without_a_bar_the_minute_before_is_nan() -> None:
    context = MarketContext()
    context.update("AAA", 10 * MINUTE_US, 0.5)
    assert context.value("BBB", 11 * MINUTE_US) == (0.5, 1)
    for symbol, minute in (("AAA", 11), ("BBB", 12), ("BBB", 10)):
        value, peers = context.value(symbol, minute * MINUTE_US)
        assert math.isnan(value)
        assert peers == 0


def test_value_includes_a_late_peer() -> None:
    context = MarketContext()
    context.update("AAA", 10 * MINUTE_US, 0.5)
    assert context.value("CCC", 11 * MINUTE_US) == (0.5, 1)
    context.update("BBB", 10 * MINUTE_US, 1.0)
    assert context.value("CCC", 11 * MINUTE_US) == (0.75, 2)


def test_first_bar_of_a_symbol_is_not_a_peer() -> None:
    context = MarketContext()
    context.update("AAA", 10 * MINUTE_US, math.nan)
    assert context.value("BBB", 11 * MINUTE_US)[1] == 0


def test_context_drops_old_minutes_only() -> None:
    context = MarketContext()
    for minute in range(200):
        context.update("AAA", minute * MINUTE_US, 0.1)
    context.update("AAA", 5 * MINUTE_US, 0.1)
    assert context.value("BBB", 6 * MINUTE_US)[1] == 0
    assert context.value("BBB", 200 * MINUTE_US) == (0.1, 1)


def test_seed_adds_the_returns_of_a_restored_symbol() -> None:
    context = MarketContext()
    context.seed("AAA", [(10 * MINUTE_US, 0.25), (11 * MINUTE_US, 0.5)])
    assert context.value("BBB", 11 * MINUTE_US) == (0.25, 1)
    assert context.value("BBB", 12 * MINUTE_US) == (0.5, 1)
