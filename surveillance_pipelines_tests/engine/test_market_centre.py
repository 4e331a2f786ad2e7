"""Views that differ in the centre of the peers' returns: one bad print, equal values live and in batch, and swaps."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.engine.engine import Engine, Swap
from surveillance_pipelines.engine.scoring_rows import input_hash
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.features.views import CORE_V1, CORE_V2, FeatureView
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, received, sessions, ticks
from surveillance_pipelines_tests.engine.test_engine import feed, make_config
from surveillance_pipelines_tests.engine.test_feature_history import frame_of
from surveillance_pipelines_tests.features.bars import same_bits

SYMBOLS = ("AAPL", "AMZN", "GOOG", "META", "MSFT", "NVDA")
CROSS_SYMBOL = ["market_return_z", "divergence_z_15"]


class MedianRules(WarmupRules):
    """The warm-up rules over ``core_v2``, whose columns are those of ``core_v1``."""

    bundle_hash = "median"
    feature_view = CORE_V2.name


def engine_of(rules: WarmupRules) -> Engine:
    return Engine(make_config(), rules, sessions(), SYMBOLS)


def messages(minutes: int):
    return [received(tick, i) for i, tick in enumerate(ticks(minutes, symbols=SYMBOLS, spikes=False))]


def features_of(frame: pl.DataFrame, view: FeatureView) -> pl.DataFrame:
    return features_of_days(frame, frame["date"].unique().to_list(), sessions(), view).sort("bar_start", "symbol")


@pytest.fixture(scope="module")
def served():
    return feed(engine_of(MedianRules()), [messages(100)])


@pytest.mark.requirement("FE-01", "FE-08", "BEY-01")
@pytest.mark.parametrize("recorded", [True, False])
def test_batch_values_of_core_v2_are_the_served_ones_bit_for_bit(served, recorded):
    """Both for bars with their recorded values and for the same bars as if they had never been served."""
    frame = frame_of(served.bars)
    assert set(frame["market_centre"]) == {"median"}
    if not recorded:
        # A bar that closed before the last of its peers was served without it; from the second minute on, none did.
        absent = [pl.lit(None, frame.schema[name]).alias(name) for name in ("market_return", "market_peers")]
        frame = frame.with_columns(absent)
    features = features_of(frame, CORE_V2)
    batch = [input_hash(row) for row in features.select(CORE_V2.columns).to_numpy()]
    final = [row for row in served.scores if row.bar_status == "final"]
    live = [row.input_hash for row in sorted(final, key=lambda row: (row.bar_start, row.symbol))]
    assert len(live) >= 99 * len(SYMBOLS)
    assert batch == live


def test_each_view_derives_its_own_centre_from_bars_served_with_the_other(served):
    means = feed(engine_of(WarmupRules()), [messages(100)])
    bars, others = frame_of(means.bars), frame_of(served.bars)
    for view, own, other in ((CORE_V1, bars, others), (CORE_V2, others, bars)):
        expected, derived = (features_of(frame, view).select(view.columns).to_numpy() for frame in (own, other))
        assert same_bits(expected, derived)


@pytest.mark.parametrize(("view", "moves"), [(CORE_V1, True), (CORE_V2, False)])
def test_one_bad_print_moves_the_cross_symbol_features_of_its_peers_in_core_v1_only(view, moves):
    clean = frame_of(feed(engine_of(WarmupRules()), [messages(100)]).bars)
    bad = (pl.col("symbol") == "AAPL") & (pl.col("bar_start").dt.timestamp("us") == OPEN + 80 * MINUTE)
    frames = [clean, clean.with_columns(pl.when(bad).then(2 * pl.col("close")).otherwise("close").alias("close"))]
    unserved = [frame.with_columns(market_peers=pl.lit(None, pl.Int32)) for frame in frames]
    before, after = (features_of(frame, view).filter(pl.col("symbol") != "AAPL") for frame in unserved)
    change = (after.select(CROSS_SYMBOL).to_numpy() - before.select(CROSS_SYMBOL).to_numpy())[len(before) * 4 // 5 :]
    largest = float(np.nanmax(np.abs(change)))
    assert largest > 100.0 if moves else largest < 2.0  # volatilities of the peer


@pytest.mark.parametrize(("old", "new"), [(WarmupRules(), MedianRules()), (MedianRules(), WarmupRules())])
def test_swap_to_another_centre_gives_the_features_of_models_that_always_had_it(old, new):
    stream = messages(50)
    place = next(i for i, message in enumerate(stream) if i % len(SYMBOLS) == 0 and i > 500)
    engine = engine_of(old)
    feed(engine, [stream[:place]])
    engine.swap(Swap(new, {symbol: Seed() for symbol in SYMBOLS}), 0)
    swapped = feed(engine, [stream[place:]])
    always = engine_of(new)
    feed(always, [stream[:place]])
    expected = feed(always, [stream[place:]])
    assert [row.input_hash for row in swapped.scores] == [row.input_hash for row in expected.scores]
    assert {bar.market_centre for bar in swapped.bars} == {"mean" if new.feature_view == "core_v1" else "median"}


def test_source_hash_of_core_v2_changes_with_the_files_that_determine_the_centre(tmp_path):
    changed = tmp_path / "market.py"
    changed.write_bytes(CORE_V2.other_sources[0].read_bytes() + b"\n")
    other = replace(CORE_V2, other_sources=(changed, *CORE_V2.other_sources[1:]))
    assert len({CORE_V1.source_hash, CORE_V2.source_hash, other.source_hash}) == 3
