import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.features.inputs import kernel_inputs, market_context
from surveillance_pipelines.features.state import FeatureState, SnapshotError, warm_up
from surveillance_pipelines.features.views import CORE_V1, HISTORY_BARS
from surveillance_pipelines_tests.features.bars import MINUTE_US, always_open, same_bits, symbol_bars

SESSIONS = always_open()


def starts_and_inputs(bars: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    known = market_context(bars)
    return known["bar_start"].dt.timestamp("us").to_numpy(), kernel_inputs(known, SESSIONS)


def batch_features(bars: pl.DataFrame) -> np.ndarray:
    features = features_of_days(bars, bars["date"].unique().to_list(), SESSIONS)
    return features.select(CORE_V1.columns).to_numpy()


def served(bars: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Add a recorded market context to bars, without peers for 10% of them."""
    rng = np.random.default_rng(seed)
    absent = rng.random(len(bars)) < 0.1
    return bars.with_columns(
        market_return=pl.Series(np.where(absent, np.nan, rng.normal(0, 1e-3, len(bars)))),
        market_peers=pl.Series(np.where(absent, 0, 4)).cast(pl.Int32),
    )


@pytest.mark.requirement("FE-01", "FE-08", "BEY-01")
@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 900),
    quiet=st.sampled_from([0.0, 0.4, 1.0]),
    gaps=st.sampled_from([0.0, 0.02, 0.5]),
    flat=st.sampled_from([0.0, 0.9]),
    splits=st.lists(st.integers(0, 900), max_size=12),
    peeks=st.sets(st.integers(0, 900), max_size=5),
)
def test_bar_by_bar_equals_batch_for_any_split_and_restart(
    seed: int, count: int, quiet: float, gaps: float, flat: float, splits: list[int], peeks: set[int]
) -> None:
    bars = served(symbol_bars("AAA", seed, count, quiet=quiet, gaps=gaps, flat=flat), seed)
    starts, inputs = starts_and_inputs(bars)
    state, rows = FeatureState(), []
    for i in range(count):
        if i in splits:
            state = FeatureState.restore(state.snapshot())
        if i in peeks:
            state.peek(int(starts[i]) + DAY_US, inputs[i])  # a bar in progress that never closed
        peeked = state.peek(int(starts[i]), inputs[i])
        rows.append(state.advance(int(starts[i]), inputs[i]))
        assert same_bits(peeked, rows[-1])
    assert same_bits(np.array(rows), batch_features(bars))


def test_restore_continues_from_the_exact_state() -> None:
    starts, inputs = starts_and_inputs(symbol_bars("AAA", 3, 700))
    state = FeatureState()
    for start, row in zip(starts[:-1].tolist(), inputs, strict=False):
        state.advance(start, row)
    snapshot = state.snapshot()
    restored = FeatureState.restore(snapshot)
    assert restored.snapshot() == snapshot
    assert restored.last_bar_start == state.last_bar_start == starts[-2]
    assert restored.recent_returns() == state.recent_returns()
    last = (int(starts[-1]), inputs[-1])
    assert same_bits(restored.advance(*last), state.advance(*last))
    assert restored.snapshot() == state.snapshot()


def test_seed_produces_the_same_state_as_advance() -> None:
    starts, inputs = starts_and_inputs(symbol_bars("AAA", 4, 800))
    advanced, seeded = FeatureState(), FeatureState()
    for start, row in zip(starts.tolist(), inputs, strict=True):
        advanced.advance(start, row)
    seeded.seed(starts, inputs)
    assert seeded.snapshot() == advanced.snapshot()


def test_seed_with_yesterday_produces_the_features_of_today() -> None:
    bars = symbol_bars("AAA", 5, 2000, gaps=0.0)
    starts, inputs = starts_and_inputs(bars)
    today = int(np.searchsorted(starts, starts[-1] // DAY_US * DAY_US))
    state = FeatureState()
    state.seed(starts[today - HISTORY_BARS : today], inputs[today - HISTORY_BARS : today])
    rows = [state.advance(int(starts[i]), inputs[i]) for i in range(today, len(starts))]
    assert len(rows) > 100
    assert same_bits(np.array(rows), batch_features(bars)[today:])


def test_seed_with_few_bars_continues_like_a_restored_one_on_its_last_day_and_later() -> None:
    starts, inputs = starts_and_inputs(symbol_bars("AAA", 6, 900))
    first = int(np.flatnonzero(np.diff(starts // DAY_US))[1]) + 1  # the first bar of the third day
    assert 5 < first <= HISTORY_BARS
    for seeded in (first, first - 5):
        state = FeatureState()
        state.seed(starts[:seeded], inputs[:seeded])
        restored = FeatureState.restore(state.snapshot())
        assert same_bits(
            state.peek(int(starts[first]), inputs[first]), restored.peek(int(starts[first]), inputs[first])
        )
        for i in range(seeded, first + 20):
            bar = int(starts[i]), inputs[i]
            assert same_bits(state.advance(*bar), restored.advance(*bar))
        assert state.snapshot() == restored.snapshot()


def test_day_depends_on_the_512_bars_before_it_only() -> None:
    starts, inputs = starts_and_inputs(symbol_bars("AAA", 6, 1500, gaps=0.0))
    midnight = int(starts[-1]) // DAY_US * DAY_US + DAY_US
    whole, tail = FeatureState(), FeatureState()
    whole.seed(starts, inputs)
    tail.seed(starts[-HISTORY_BARS:], inputs[-HISTORY_BARS:])
    short = FeatureState()
    short.seed(starts[-300:], inputs[-300:])
    expected = whole.peek(midnight, inputs[0])
    assert same_bits(tail.peek(midnight, inputs[0]), expected)
    assert not same_bits(short.peek(midnight, inputs[0]), expected)


def test_recent_returns_are_the_log_returns_served() -> None:
    starts, inputs = starts_and_inputs(symbol_bars("AAA", 7, 300))
    state, served_returns = FeatureState(), []
    assert state.last_bar_start is None
    assert math.isnan(state.last_log_return)
    for start, row in zip(starts.tolist(), inputs, strict=True):
        served_returns.append((start, float(state.advance(start, row)[kernel.LOG_RETURN])))
    assert state.recent_returns(20) == served_returns[-20:]
    assert state.last_log_return == served_returns[-1][1]


def test_advance_with_a_bar_not_after_the_last_is_refused() -> None:
    starts, inputs = starts_and_inputs(symbol_bars("AAA", 8, 3))
    state = FeatureState()
    state.advance(int(starts[1]), inputs[1])
    before = state.snapshot()
    for start in (starts[1], starts[0]):
        with pytest.raises(ValueError, match="expected a bar that starts after"):
            state.advance(int(start), inputs[0])
        with pytest.raises(ValueError, match="expected a bar that starts after"):
            state.peek(int(start), inputs[0])
    assert state.snapshot() == before


def test_seed_with_unsorted_bars_is_refused() -> None:
    starts, inputs = starts_and_inputs(symbol_bars("AAA", 9, 5))
    with pytest.raises(ValueError, match="ascending"):
        FeatureState().seed(starts[::-1], inputs)


def test_restore_of_a_foreign_snapshot_says_what_was_expected() -> None:
    snapshot = FeatureState().snapshot()
    hash_ = CORE_V1.source_hash.encode()
    foreign = {
        "begins with": b"PK\x03\x04" + snapshot,
        "one of \\['core_v1', 'core_v2'\\], got one of 'core_v9'": snapshot.replace(b"core_v1", b"core_v9"),
        "of kernel": snapshot.replace(hash_, b"0" * len(hash_)),
        "bytes after the snapshot's header": snapshot[:-8],
    }
    for message, data in foreign.items():
        with pytest.raises(SnapshotError, match=message):
            FeatureState.restore(data)


def test_warm_up_compiles_the_kernel() -> None:
    warm_up()
    assert kernel.peek.signatures
    assert kernel.step.signatures


HIDDEN_DURING_WARM_UP = """
import sys
from surveillance_pipelines.features.state import warm_up

class Watch:
    hidden, imports = set(), 0

    def find_spec(self, *_):
        Watch.imports += 1
        Watch.hidden |= {name for name, module in sys.modules.items() if module is None}

sys.meta_path.insert(0, Watch())
warm_up()
assert Watch.imports, "numba imports modules when it first compiles"
assert not Watch.hidden, Watch.hidden
"""


def test_warm_up_hides_no_module_from_other_threads() -> None:
    subprocess.run([sys.executable, "-c", HIDDEN_DURING_WARM_UP], check=True)


LINEAR_ALGEBRA_AFTER_WARM_UP = """
import sys
import numpy as np
from numba import njit
from surveillance_pipelines.features.state import warm_up

warm_up()
assert "scipy.linalg" not in sys.modules, "the kernel calls none of it"
square, line = np.array([[2.0, 1.0], [1.0, 3.0]]), np.arange(4.0)
inverse, product, convolved = njit(lambda a, b: (np.linalg.inv(a), a @ a, np.convolve(b, b)))(square, line)
assert np.allclose(inverse @ square, np.eye(2)) and np.allclose(product, square @ square)
assert np.allclose(convolved, np.convolve(line, line))
from numba.np import arraymath, linalg
assert linalg.ensure_blas is arraymath.ensure_blas and linalg.ensure_blas.__module__ == "numba.np.linalg"
"""


def test_warm_up_imports_no_linear_algebra_and_leaves_that_of_numba_usable() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", LINEAR_ALGEBRA_AFTER_WARM_UP], check=True)


def test_empty_seed_then_first_bar_has_no_return() -> None:
    state = FeatureState()
    state.seed(np.empty(0, dtype=np.int64), np.empty((0, 10)))
    _, inputs = starts_and_inputs(symbol_bars("AAA", 10, 1))
    features = state.advance(17 * MINUTE_US, inputs[0])
    assert math.isnan(features[kernel.LOG_RETURN])
    assert features[kernel.NEW_SESSION] == 1.0


def test_bars_of_any_array_like_type_are_bit_identical() -> None:
    starts, inputs = starts_and_inputs(symbol_bars("AAA", 11, 80))
    inputs[:, 8:] = 0.0
    whole = np.floor(inputs)
    states = [FeatureState() for _ in range(5)]
    forms = (
        np.asarray,
        np.ndarray.tolist,
        np.asfortranarray,
        lambda row: row.astype(np.int64),
        lambda row: row[::-1][::-1],
    )
    for start, row in zip(starts.tolist(), whole, strict=True):
        answers = [state.advance(start, form(row)) for state, form in zip(states, forms, strict=True)]
        assert all(same_bits(answer, answers[0]) for answer in answers)
    with pytest.raises(ValueError, match="broadcast"):
        states[0].advance(int(starts[-1]) + MINUTE_US, inputs[0, :4])


def test_peek_of_a_new_day_includes_further_bars() -> None:
    starts, inputs = starts_and_inputs(symbol_bars("AAA", 12, 200, gaps=0.0))
    state, fresh = FeatureState(), FeatureState()
    tomorrow = (int(starts[-1]) // DAY_US + 1) * DAY_US
    for i in range(150):
        state.advance(int(starts[i]), inputs[i])
    state.peek(tomorrow, inputs[199])
    for i in range(150, 199):
        state.advance(int(starts[i]), inputs[i])
    for i in range(199):
        fresh.advance(int(starts[i]), inputs[i])
    assert same_bits(state.peek(tomorrow, inputs[199]), fresh.peek(tomorrow, inputs[199]))
    assert same_bits(state.advance(tomorrow, inputs[199]), fresh.advance(tomorrow, inputs[199]))
