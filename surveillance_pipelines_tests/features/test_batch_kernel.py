import ast
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surveillance_pipelines.features import batch_context, batch_kernel, batch_prices, kernel
from surveillance_pipelines.features.batch import BATCH_KERNELS, chosen_columns
from surveillance_pipelines.features.views import CORE_V1, HISTORY_BARS, VIEWS
from surveillance_pipelines_tests.features.bars import same_bits
from surveillance_pipelines_tests.features.test_views import INPUT_NAMES

SHARES = st.sampled_from([0.0, 0.1, 0.9, 0.97, 1.0])


def random_inputs(seed: int, count: int, *, quiet: float, alone: float, flat: float = 0.1) -> np.ndarray:
    """Return kernel inputs; ``quiet`` bars have no volume, ``alone`` ones no peers, ``flat`` ones no price change."""
    rng = np.random.default_rng(seed)
    close = np.round(50.0 * np.exp(np.cumsum(np.where(rng.random(count) < flat, 0.0, rng.normal(0, 1e-3, count)))), 2)
    opens = np.concatenate([close[:1], close[:-1]])
    volume = np.where(rng.random(count) < quiet, 0.0, np.round(rng.lognormal(8, 1, count)))
    market = np.where(rng.random(count) < alone, np.nan, rng.normal(0, 1e-4, count))
    minute = np.arange(count) % 500 - 60.0 + np.where(rng.random(count) < 0.01, 0.5, 0.0)
    columns = (
        opens, np.maximum(opens, close) + rng.choice([0.0, 0.01], count), np.minimum(opens, close), close, volume,
        np.arange(count) // 500, minute, np.full(count, 390.0), market, np.where(np.isnan(market), 0.0, 3.0),
    )  # fmt: skip
    return np.ascontiguousarray(np.column_stack(columns))


def bar_by_bar(rows: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Return f8[48, n] of the bars of ``days``, each with its own history, as in the live lane."""
    parts = []
    for history, start, stop in days:
        out = np.empty((stop - history, kernel.N_FEATURES))
        kernel.run(np.zeros(kernel.STATE_SIZE), rows[history:stop], out)
        parts.append(out[start - history :])
    return np.concatenate(parts).T


def in_columns(rows: np.ndarray, days: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
    first, end = days[0, 1], days[-1, 2]
    out = np.full((kernel.N_FEATURES, end - first), 123.0)
    chosen = np.ones(kernel.N_FEATURES, dtype=np.bool_) if chosen is None else chosen
    columns = np.ascontiguousarray(rows.T)
    batch_kernel.symbol_features(columns, days[0, 0], first, end, days=days, out=out, at=0, chosen=chosen)
    return out


def days_of(borders: list[int], begin: int = 0) -> np.ndarray:
    pairs = pairwise(borders)
    return np.array([(max(begin, start - HISTORY_BARS), start, stop) for start, stop in pairs])


@pytest.mark.requirement("FE-01", "BEY-01")
@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(2, 1_800),
    cuts=st.lists(st.floats(0, 1), max_size=4),
    quiet=SHARES,
    alone=SHARES,
    block=st.sampled_from([7, 64, 300, 2_048]),
)
def test_columns_equal_bar_by_bar_for_any_days_and_blocks(
    seed: int, count: int, cuts: list[float], quiet: float, alone: float, block: int
) -> None:
    rows = random_inputs(seed, count, quiet=quiet, alone=alone)
    days = days_of(sorted({0, count, *(int(cut * count) for cut in cuts)}))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batch_kernel, "BLOCK", block)
        assert same_bits(in_columns(rows, days), bar_by_bar(rows, days))


def test_columns_of_later_days_need_no_bars_before_their_history() -> None:
    rows = random_inputs(3, 1_500, quiet=0.4, alone=0.2)
    days = days_of([900, 1_200, 1_500])
    assert days[0, 0] == 388
    assert same_bits(in_columns(rows, days), bar_by_bar(rows, days))


def test_extreme_prices_and_volumes_are_bit_identical() -> None:
    rows = random_inputs(4, 400, quiet=0.1, alone=0.1)
    rows[150:160, :4] *= 1e300
    rows[200:210, :4] *= 1e-300
    rows[250:255, kernel.VOLUME] = 1.7e308
    rows[300, kernel.SESSION_MINUTES] = 0.0
    days = days_of([0, 400])
    assert same_bits(in_columns(rows, days), bar_by_bar(rows, days))


@pytest.mark.parametrize("column", CORE_V1.columns)
def test_single_requested_column_is_bit_identical(column: str) -> None:
    rows, index = random_inputs(5, 700, quiet=0.2, alone=0.2), CORE_V1.columns.index(column)
    days = days_of([0, 200, 700])
    chosen = chosen_columns(CORE_V1, [column])
    assert chosen.sum() == 1
    assert same_bits(in_columns(rows, days, chosen)[index], bar_by_bar(rows, days)[index])


def test_unknown_column_error_lists_the_columns() -> None:
    with pytest.raises(ValueError, match=r"expected columns of feature view core_v1 \(log_return, .*\), got rsi"):
        chosen_columns(CORE_V1, ["rsi", "range"])
    with pytest.raises(ValueError, match="got none"):
        chosen_columns(CORE_V1, [])


def test_kernel_in_numbas_cache_counts_as_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = random_inputs(6, 100, quiet=0.2, alone=0.2)
    in_columns(rows, days_of([0, 100]))
    assert batch_kernel.is_compiled()
    elsewhere = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)), __name__="prices")
    monkeypatch.setattr(batch_prices, "prices", elsewhere)
    assert not batch_kernel.is_compiled()


def test_every_view_has_a_batch_kernel() -> None:
    assert BATCH_KERNELS.keys() == VIEWS.keys()


@pytest.mark.parametrize("module", [batch_prices, batch_context])
def test_batch_files_are_self_contained_and_share_the_kernels_constants(module: object) -> None:
    tree = ast.parse(Path(module.__file__).read_text())  # type: ignore[attr-defined]
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} == {"math", "collections", "numpy", "numba"}
    shared = {"RETURN_FLOOR", "LOG_VOLUME_FLOOR", "RUN_LIMIT"} | {name.upper() for name in CORE_V1.columns}
    shared |= set(INPUT_NAMES)
    for name in shared & vars(module).keys():
        assert getattr(module, name) == getattr(kernel, name), name
