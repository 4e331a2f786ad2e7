"""The generator of anomalies that only evaluations use."""

import ast
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.evaluation import independent_anomalies, independent_shapes
from surveillance_pipelines.evaluation.independent_anomalies import (
    EVENT_SCHEMA,
    FULL_MOVE,
    FULL_VOLUME,
    PER_SYMBOL_DAY,
    SIZES,
    plant_independent,
)
from surveillance_pipelines.evaluation.independent_shapes import POINTS, SHAPES, Size
from surveillance_pipelines_tests.market.markets import market_bars, session_table

PRICES = ("open", "high", "low", "close")
FULL = Size(0.03, 15.0)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return market_bars().sort("symbol", "bar_start")


@pytest.mark.parametrize("size", SIZES)
def test_planted_copy_has_valid_bars_and_at_most_two_events_per_symbol_and_day(bars, size):
    copy = plant_independent(bars, session_table(), size=size, seed=3)
    assert copy.bars.schema == BAR_SCHEMA
    assert copy.events.schema == EVENT_SCHEMA
    assert copy.bars.select("symbol", "bar_start").equals(bars.select("symbol", "bar_start"))
    valid = copy.bars.filter(
        pl.col("high") >= pl.max_horizontal("open", "close"),
        pl.col("low") <= pl.min_horizontal("open", "close"),
        pl.col("low") > 0,
        pl.col("volume") >= 0,
    )
    assert valid.height == bars.height
    per_day = copy.events.group_by("symbol", pl.col("first").dt.date()).len()
    assert per_day["len"].max() == PER_SYMBOL_DAY
    assert set(copy.events["kind"]) == set(SHAPES)


def test_bars_before_the_first_event_are_unchanged(bars):
    copy = plant_independent(bars, session_table(), size="full", seed=3)
    first = copy.events.group_by("symbol").agg(pl.col("first").min())
    before = bars.join(first, on="symbol").filter(pl.col("bar_start") < pl.col("first"))
    same = before.join(copy.bars, on=["symbol", "bar_start"], suffix="_planted")
    assert same.height == before.height > 0
    for name in (*PRICES, "volume"):
        assert np.allclose(same[name].to_numpy(), same[f"{name}_planted"].to_numpy(), rtol=1e-12)


def test_events_of_one_symbol_and_day_are_at_least_an_hour_apart(bars):
    events = plant_independent(bars, session_table(), size="full", seed=5).events.sort("symbol", "first")
    gaps = events.with_columns(
        gap=(pl.col("first") - pl.col("last").shift(1).over("symbol", pl.col("first").dt.date())).dt.total_minutes()
    )
    assert (gaps["gap"].drop_nulls() > 60).all()


def test_equal_seeds_give_equal_copies_and_other_seeds_other_ones(bars):
    first, again, other = (plant_independent(bars, session_table(), size="full", seed=seed) for seed in (3, 3, 4))
    assert first.bars.equals(again.bars)
    assert first.events.equals(again.events)
    assert not first.events.equals(other.events)


def test_size_of_an_event_is_the_promised_share_of_the_full_size(bars):
    full = plant_independent(bars, session_table(), size="full", seed=3).events
    third = plant_independent(bars, session_table(), size="third", seed=3).events
    assert (full["move"] >= FULL_MOVE).all()
    ratio = full.group_by("symbol").agg(pl.col("move").max()).join(
        third.group_by("symbol").agg(small=pl.col("move").max()), on="symbol"
    )  # fmt: skip
    assert ratio.select((pl.col("small") / pl.col("move")).round(9)).to_series().unique().to_list() == [round(1 / 3, 9)]


def test_volume_spike_reaches_its_multiple_of_the_median_and_keeps_the_prices(bars):
    copy = plant_independent(bars, session_table(), size="full", seed=3, kinds=("volume_spike",))
    events = copy.events.select("symbol", bar_start="first")
    spiked = copy.bars.join(events, on=["symbol", "bar_start"])
    usual = bars.filter(pl.col("volume") > 0).group_by("symbol").agg(usual=pl.col("volume").median())
    assert spiked.height == copy.events.height > 10
    assert (
        spiked.join(usual, on="symbol").select(pl.col("volume") / pl.col("usual")).to_series() > 0.9 * FULL_VOLUME
    ).all()
    closes = spiked.join(bars, on=["symbol", "bar_start"], suffix="_before")
    assert np.allclose(closes["close"].to_numpy(), closes["close_before"].to_numpy())


@pytest.mark.parametrize("kind", SHAPES)
def test_every_shape_reaches_its_size_and_fits_its_minutes(kind):
    for seed in range(20):
        overlay = SHAPES[kind](FULL, np.random.default_rng(seed))
        assert overlay.path.shape == (overlay.minutes * POINTS,)
        assert overlay.volume_added.shape == (overlay.minutes,)
        assert 1 <= overlay.minutes <= independent_shapes.LONGEST_MINUTES
        largest = max(np.abs(overlay.path).max() / FULL.move, overlay.volume_added.max() / FULL.volume)
        assert 0.6 <= largest <= 1.25, "damped swings reach less than their amplitude"


@pytest.mark.parametrize(("kind", "kept"), [("bad_print", 0.0), ("volatility_burst", 0.0), ("ramping", 1.0)])
def test_move_that_later_minutes_keep(kind, kept):
    overlay = SHAPES[kind](FULL, np.random.default_rng(2))
    assert abs(overlay.kept) == pytest.approx(kept * FULL.move, abs=0.05 * FULL.move)


def test_marking_the_close_ends_with_the_session(bars):
    events = plant_independent(bars, session_table(), size="full", seed=3, kinds=("marking_the_close",)).events
    last = bars.group_by("symbol", pl.col("bar_start").dt.date().alias("day")).agg(close=pl.col("bar_start").max())
    placed = events.with_columns(day=pl.col("last").dt.date()).join(last, on=["symbol", "day"])
    assert placed.height == events.height > 0
    assert placed["last"].equals(placed["close"].alias("last"))


def test_symbol_without_volume_gets_no_event(bars):
    silent = bars.with_columns(volume=pl.when(pl.col("symbol") == "SPY").then(0.0).otherwise("volume"))
    copy = plant_independent(silent, session_table(), size="full", seed=3)
    assert "SPY" not in set(copy.events["symbol"])
    assert copy.bars.filter(pl.col("symbol") == "SPY").equals(silent.filter(pl.col("symbol") == "SPY"))


def test_generator_shares_no_code_with_the_training_shapes():
    for module in (independent_shapes, independent_anomalies):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name for name in imported if name and ".training" in name}
