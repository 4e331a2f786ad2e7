"""Market returns looked up per minute equal those of ``market.peer_returns``, bit for bit."""

import numpy as np
import pytest

from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.features.market import MINUTE_US, peer_returns
from surveillance_pipelines.features.peer_minutes import minutes_of
from surveillance_pipelines_tests.features.bars import same_bits

NAMES = ["A", "B", "C", "D", "E", "F", "G"]
FIRST = 1_709_510_400_000_000


def rows(seed: int, shift: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lengths, starts and returns: gaps, minutes with one symbol, both zeros, equal returns, NaN, infinity."""
    rng = np.random.default_rng(seed)
    present = rng.random((len(NAMES), 60)) < rng.choice([0.15, 0.5, 0.95], (1, 60))
    present[:, [10, 40]] = False
    values = rng.choice([-0.0, 0.0, 1e-3, -2e-3, np.nan, np.inf], present.shape)
    values = np.where(rng.random(present.shape) < 0.6, rng.normal(0, 1e-3, present.shape), values)
    _, minutes = np.nonzero(present)
    return present.sum(axis=1), FIRST + minutes * MINUTE_US + shift * minutes, values[present]


@pytest.mark.parametrize("centre", ["mean", "median"])
@pytest.mark.parametrize("shift", [0, 7], ids=["minutes", "other_instants"])
@pytest.mark.parametrize("seed", range(6))
def test_values_equal_those_of_all_rows(seed: int, shift: int, centre: MarketCentre):
    lengths, starts, returns = rows(seed, shift)
    codes = np.repeat(np.arange(len(NAMES)), lengths)
    step = MINUTE_US + shift
    wanted = np.ones(len(starts), dtype=np.bool_)
    values, peers = peer_returns(starts, codes, returns, step, centre=centre, wanted=wanted)
    own = np.full(len(starts), np.nan)
    own[1:] = np.where((np.diff(starts) == step) & (codes[1:] == codes[:-1]), returns[:-1], np.nan)
    minutes = minutes_of(NAMES, lengths, starts, returns, centre)
    found, counts = minutes.without(NAMES, lengths, starts - step, own)
    assert same_bits(found, values)
    assert counts.tolist() == peers.tolist()
    assert {0, 1} < set(peers.tolist())


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_symbol_without_bars_has_all_others_as_peers(centre: MarketCentre):
    lengths, starts, returns = np.array([2, 1]), FIRST + MINUTE_US * np.array([0, 1, 1]), np.array([0.1, 0.2, 0.5])
    minutes = minutes_of(["A", "B"], lengths, starts, returns, centre)
    asked = FIRST + MINUTE_US * np.array([0, 1, 2])
    values, peers = minutes.without(["NEW"], np.array([3]), asked, np.full(3, np.nan))
    assert same_bits(values, np.array([0.1, 0.5 * (0.2 + 0.5), np.nan]))
    assert peers.tolist() == [1, 2, 0]


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_day_without_bars_has_no_peers(centre: MarketCentre):
    empty = np.empty(0, dtype=np.int64)
    minutes = minutes_of([], empty, empty, np.empty(0), centre)
    values, peers = minutes.without(["A"], np.array([1]), np.array([FIRST]), np.array([0.1]))
    assert np.isnan(values).all()
    assert peers.tolist() == [0]
