import math
from statistics import mean, median
from typing import Final

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.features.inputs import market_context
from surveillance_pipelines.features.market import MINUTE_US, MarketContext, log_returns, peer_returns
from surveillance_pipelines_tests.features.bars import market_bars, same_bits

SYMBOLS = ("BBB", "AAA", "Äb", "a.HK", "^VIX", "BTC/USD")
CENTRES: Final[tuple[MarketCentre, ...]] = ("mean", "median")


def live_context(bars: pl.DataFrame, centre: MarketCentre) -> tuple[np.ndarray, np.ndarray]:
    """Feed bars minute by minute, with the symbols in random order, as in a live engine."""
    frame = bars.with_columns(rank=pl.col("symbol").rank("dense").cast(pl.Int64)).with_row_index()
    returns = log_returns(frame["rank"].to_numpy(), frame["close"].to_numpy())
    context, values, peers = MarketContext(centre=centre), np.empty(len(bars)), np.empty(len(bars))
    starts, symbols = frame["bar_start"].dt.timestamp("us").to_list(), frame["symbol"].to_list()
    order = np.lexsort((np.random.default_rng(0).random(len(bars)), np.array(starts)))
    for i in order.tolist():
        values[i], peers[i] = context.value(symbols[i], starts[i])
        context.update(symbols[i], starts[i], float(returns[i]))
        assert context.value(symbols[i], starts[i])[1] == peers[i]  # the bar itself is not a peer
    return values, peers


def sum_in_order(returns: dict[str, float], symbol: str) -> tuple[float, int]:
    """Return the mean of ``core_v1`` as it is defined: one addition after the other, in sorted order of the peers."""
    total, peers = 0.0, 0
    for name in sorted(returns):
        if name != symbol:
            total += returns[name]
            peers += 1
    return (total / peers if peers else math.nan), peers


def random_returns(count: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    values = np.round(rng.standard_t(2, count) * 1e-3, 5)  # rounded, so that many are equal
    return {f"S{name:04d}": float(value) for name, value in zip(rng.permutation(count), values, strict=True)}


@pytest.mark.requirement("FE-08")
@pytest.mark.parametrize("centre", CENTRES)
def test_live_context_equals_the_frame_bit_for_bit(centre):
    bars = market_context(market_bars(seed=11, count=400, symbols=SYMBOLS), centre)
    values, peers = live_context(bars, centre)
    assert same_bits(values, bars["market_return"].to_numpy())
    assert peers.tolist() == bars["market_peers"].to_list()
    assert set(bars["market_peers"].unique()) >= {0, 1, 2, 3}


@pytest.mark.parametrize("count", [1, 2, 3, 17, 300])
def test_mean_is_the_sum_in_sorted_order_of_the_peers_after_each_return(count):
    context, known = MarketContext(), dict[str, float]()
    for name, value in random_returns(count, seed=count).items():
        context.update(name, 0, value)
        known[name] = value
        for symbol in (name, min(known), max(known), "absent", "S0000 and a bit"):
            assert same_bits(
                *(np.array(one) for one in (context.value(symbol, MINUTE_US), sum_in_order(known, symbol)))
            )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 300, 301])
def test_median_is_that_of_the_others_after_each_return(count):
    context, known = MarketContext(centre="median"), dict[str, float]()
    for name, value in random_returns(count, seed=count).items():
        context.update(name, 0, value)
        known[name] = value
        for symbol in (name, min(known), max(known), "absent"):
            others = [one for peer, one in known.items() if peer != symbol]
            expected = median(others) if others else math.nan
            assert context.value(symbol, MINUTE_US) == pytest.approx((expected, len(others)), nan_ok=True, abs=1e-18)


@pytest.mark.parametrize("centre", CENTRES)
def test_batch_of_some_symbols_equals_the_live_context_bit_for_bit(centre):
    returns = random_returns(300, seed=5)
    context, names = MarketContext(centre=centre), sorted(returns)
    for name in names[::2]:
        context.update(name, 0, returns[name])
    wanted = [i for i in range(300) if i % 3 == 0]
    known = np.full((300, 2), math.nan)
    known[::2, 0] = [returns[name] for name in names[::2]]
    chosen = np.zeros((300, 2), dtype=bool)
    chosen[wanted, 1] = True
    values, peers = peer_returns(
        np.tile([0, MINUTE_US], 300), np.repeat(np.arange(300), 2), known.ravel(), MINUTE_US, centre=centre,
        wanted=chosen.ravel(),
    )  # fmt: skip
    live = [context.value(names[i], MINUTE_US) for i in wanted]
    assert same_bits(values.reshape(300, 2)[wanted, 1], np.array([value for value, _ in live]))
    assert peers.reshape(300, 2)[wanted, 1].tolist() == [count for _, count in live]
    assert peers.sum() == sum(count for _, count in live), "bars that are not wanted are not computed"


@pytest.mark.requirement("FE-08", "ING-18")
@pytest.mark.parametrize(("centre", "expected"), [("mean", mean), ("median", median)])
def test_market_return_is_the_centre_of_the_others_one_minute_before(centre, expected):
    bars = market_context(market_bars(seed=12, count=200), centre)
    returns = bars.with_columns(r=(pl.col("close") / pl.col("close").shift()).log().over("symbol"))
    before = returns.select("r", peer="symbol", bar_start=pl.col("bar_start") + pl.duration(minutes=1))
    pairs = bars.join(before, on="bar_start").filter((pl.col("peer") != pl.col("symbol")) & pl.col("r").is_not_null())
    found = {key: expected(part["r"].to_list()) for key, part in pairs.group_by("symbol", "bar_start")}
    keys = list(bars.select("symbol", "bar_start").iter_rows())
    assert (bars["market_peers"] > 0).to_list() == [key in found for key in keys]
    wanted = np.array([found.get(key, math.nan) for key in keys])
    np.testing.assert_allclose(bars["market_return"].to_numpy(), wanted, atol=1e-15)


def test_bars_off_the_grid_of_the_timeframe_have_peers_one_step_before_only():
    starts = np.array([0, MINUTE_US, 30, MINUTE_US + 30])
    values, peers = peer_returns(
        starts, np.array([0, 0, 1, 1]), np.array([0.5, 0.25, 0.75, 0.5]), MINUTE_US, centre="mean",
        wanted=np.full(4, fill_value=True),
    )  # fmt: skip
    assert np.isnan(values).all()
    assert peers.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("centre", CENTRES)
def test_value_without_a_bar_the_minute_before_is_nan(centre):
    context = MarketContext(centre=centre)
    context.update("AAA", 10 * MINUTE_US, 0.5)
    assert context.value("BBB", 11 * MINUTE_US) == (0.5, 1)
    for symbol, minute in (("AAA", 11), ("BBB", 12), ("BBB", 10)):
        value, peers = context.value(symbol, minute * MINUTE_US)
        assert math.isnan(value)
        assert peers == 0


@pytest.mark.parametrize("centre", CENTRES)
def test_value_includes_a_late_peer_and_a_replaced_return(centre):
    context = MarketContext(centre=centre)
    context.update("AAA", 10 * MINUTE_US, 0.5)
    assert context.value("CCC", 11 * MINUTE_US) == (0.5, 1)
    context.update("BBB", 10 * MINUTE_US, 1.0)
    assert context.value("CCC", 11 * MINUTE_US) == (0.75, 2)
    context.update("BBB", 10 * MINUTE_US, 0.0)
    assert context.value("CCC", 11 * MINUTE_US) == (0.25, 2)


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


def test_changed_centre_is_of_the_same_returns() -> None:
    context = MarketContext()
    for symbol, value in (("AAA", 0.0), ("BBB", 0.25), ("CCC", 8.0), ("DDD", 1.0)):
        context.update(symbol, 10 * MINUTE_US, value)
    assert context.value("DDD", 11 * MINUTE_US) == (2.75, 3)
    context.change_centre("median")
    assert context.value("DDD", 11 * MINUTE_US) == (0.25, 3)
    context.change_centre("mean")
    assert context.value("DDD", 11 * MINUTE_US) == (2.75, 3)
