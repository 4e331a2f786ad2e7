import ast
import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.inputs import kernel_inputs, market_context
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines_tests.features.bars import always_open, market_bars, same_bits, symbol_bars

COUNT = 900


def compute(inputs: np.ndarray) -> pl.DataFrame:
    out = np.empty((len(inputs), kernel.N_FEATURES))
    kernel.run(np.zeros(kernel.STATE_SIZE), np.ascontiguousarray(inputs), out)
    return pl.from_numpy(out, schema=list(CORE_V1.columns))


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    bars = market_context(market_bars(seed=1, count=COUNT))
    return kernel_inputs(bars.filter(pl.col("symbol") == "AAA"), always_open())


@pytest.fixture(scope="module")
def features(inputs: np.ndarray) -> pl.DataFrame:
    return compute(inputs)


@pytest.fixture(scope="module")
def bars(inputs: np.ndarray) -> pl.DataFrame:
    frame = pl.from_numpy(inputs, schema=list(kernel.INPUTS))
    return frame.with_columns(r=(pl.col("close") / pl.col("close").shift()).log())


def test_kernel_file_imports_only_math_numpy_and_numba() -> None:
    tree = ast.parse(Path(kernel.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} == {"math", "numpy", "numba"}


def test_step_many_times_equals_run_bit_for_bit(inputs: np.ndarray, features: pl.DataFrame) -> None:
    state, out = np.zeros(kernel.STATE_SIZE), np.empty((len(inputs), kernel.N_FEATURES))
    for row, bar in zip(out, inputs, strict=True):
        kernel.step(state, bar, row)
    assert same_bits(out, features.to_numpy())


def test_peek_equals_step_and_leaves_the_state(inputs: np.ndarray) -> None:
    state, scratch = np.zeros(kernel.STATE_SIZE), np.empty(kernel.STATE_SIZE)
    kernel.run(state, inputs[:200], np.empty((200, kernel.N_FEATURES)))
    before, peeked, stepped = state.copy(), np.empty(kernel.N_FEATURES), np.empty(kernel.N_FEATURES)
    kernel.peek(state, scratch, inputs[200], peeked)
    assert same_bits(state, before)
    kernel.step(state, inputs[200], stepped)
    assert same_bits(peeked, stepped)
    assert not same_bits(state, before)


def reference_prices() -> dict[str, pl.Expr]:
    close, high, low, r = pl.col("close"), pl.col("high"), pl.col("low"), pl.col("r")
    sigma = (r**2).rolling_mean(60).sqrt().shift()
    height = (high - low) / close
    sma = close.rolling_mean(20)
    return {
        "log_return": r,
        "range": height,
        "gap": (pl.col("open") / close.shift()).log(),
        "sma_20": sma,
        "sma_distance": close / sma - 1,
        "bollinger_z": (close - sma) / close.rolling_std(20, ddof=0),
        "realised_volatility": (r**2).rolling_mean(20).sqrt(),
        "return_z": r / sigma,
        "gap_z": (pl.col("open") / close.shift()).log() / sigma,
        "range_ratio": height / height.rolling_mean(20).shift(),
        "return_z_5": (close / close.shift(5)).log() / sigma / math.sqrt(5),
        "return_z_15": (close / close.shift(15)).log() / sigma / math.sqrt(15),
        "volatility_ratio": (r**2).rolling_mean(5).sqrt() / sigma,
        "drawdown_15": (high.rolling_max(15) / close).log() / sigma / math.sqrt(15),
        "runup_15": (close / low.rolling_min(15)).log() / sigma / math.sqrt(15),
        "sign_balance_10": r.sign().rolling_mean(10),
        "market_return_z": pl.col("market_return").fill_nan(None) / sigma,
        "relative_return": r.shift() - pl.col("market_return").fill_nan(None),
    }


@pytest.mark.requirement("FE-01", "FE-08", "ING-18")
@pytest.mark.parametrize("column", sorted(reference_prices()))
def test_price_feature_equals_polars(column: str, bars: pl.DataFrame, features: pl.DataFrame) -> None:
    expected = bars.select(reference_prices()[column]).to_series().fill_null(math.nan).to_numpy()
    np.testing.assert_allclose(features[column].to_numpy(), expected, rtol=1e-9, atol=1e-12)


def reference_volumes() -> dict[str, pl.Expr]:
    volume, logged = pl.col("volume"), pl.col("volume").log1p()
    z = (logged - logged.rolling_mean(60).shift()) / logged.rolling_std(60, ddof=0).shift()
    money = (pl.col("r").fill_null(0).abs() + kernel.RETURN_FLOOR) / (volume * pl.col("close"))
    amihud = money.log()
    signed = volume * pl.col("r").fill_null(0).sign()
    return {
        "volume_z": z,
        "volume_ratio": volume / volume.rolling_mean(20).shift(),
        "volume_z_5": z.rolling_mean(5),
        "illiquidity_z": (amihud - amihud.rolling_mean(60).shift()) / amihud.rolling_std(60, ddof=0).shift(),
        "flow_balance_10": signed.rolling_sum(10) / volume.rolling_sum(10),
        "price_volume_divergence": pl.col("return_z").abs() - z,
    }


@pytest.mark.requirement("FE-01")
@pytest.mark.parametrize("column", sorted(reference_volumes()))
def test_volume_feature_counts_only_bars_with_volume(column: str, bars: pl.DataFrame, features: pl.DataFrame) -> None:
    traded = bars["volume"] > 0
    assert 0.2 < traded.mean() < 0.8  # type: ignore[operator]
    with_volume = bars.with_columns(features["return_z"]).filter(traded)
    expected = with_volume.select(reference_volumes()[column]).to_series().fill_null(math.nan).to_numpy()
    np.testing.assert_allclose(features.filter(traded)[column].to_numpy(), expected, rtol=1e-9, atol=1e-12)
    assert features.filter(~traded)[column].is_nan().all()


def exponential_mean(values: pl.Series, span: int) -> pl.Series:
    return values.ewm_mean(span=span, adjust=False)


def test_exponential_means_start_at_the_first_value(bars: pl.DataFrame, features: pl.DataFrame) -> None:
    fast, slow = exponential_mean(bars["close"], 12), exponential_mean(bars["close"], 26)
    macd = fast - slow
    signal = exponential_mean(macd[25:], 9)
    for column, expected, first in (("ema_12", fast, 11), ("ema_26", slow, 25), ("macd", macd, 25)):
        np.testing.assert_allclose(features[column][first:], expected[first:], rtol=0, atol=1e-11)
        assert features[column][:first].is_nan().all()
    np.testing.assert_allclose(features["macd_signal"][33:], signal[8:], rtol=0, atol=1e-11)


def wilder(values: np.ndarray, period: int = 14) -> np.ndarray:
    out = np.full(len(values), np.nan)
    out[period] = np.mean(values[1 : period + 1])
    for i in range(period + 1, len(values)):
        out[i] = out[i - 1] + (values[i] - out[i - 1]) / period
    return out


def test_wilder_averages_start_at_the_mean_of_fourteen(bars: pl.DataFrame, features: pl.DataFrame) -> None:
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    change, last = np.diff(close, prepend=np.nan), np.concatenate([[np.nan], close[:-1]])
    gain, loss = wilder(np.maximum(change, 0)), wilder(np.maximum(-change, 0))
    atr = wilder(np.maximum(high, last) - np.minimum(low, last))
    np.testing.assert_allclose(features["rsi_14"], 100 - 100 / (1 + gain / loss), rtol=1e-9)
    np.testing.assert_allclose(features["atr_14"], atr, rtol=1e-9)
    np.testing.assert_allclose(features["atr_relative"], atr / close, rtol=1e-9)
    macd_relative = features["macd"].to_numpy() / atr
    np.testing.assert_allclose(features["macd_relative"], macd_relative, rtol=1e-9)


def test_talib_agrees_where_initial_values_are_equal_or_decayed(bars: pl.DataFrame, features: pl.DataFrame) -> None:
    talib = pytest.importorskip("talib", reason="TA-Lib is not a dependency of the project")
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    np.testing.assert_allclose(features["sma_20"], talib.SMA(close, 20), rtol=1e-9)
    np.testing.assert_allclose(features["rsi_14"], talib.RSI(close, 14), rtol=1e-9)
    np.testing.assert_allclose(features["atr_14"], talib.ATR(high, low, close, 14), rtol=1e-9)
    # TA-Lib starts an exponential mean at a simple mean; after 500 bars both initial values have decayed.
    macd, signal, _ = talib.MACD(close)
    expected = {"ema_12": talib.EMA(close, 12), "ema_26": talib.EMA(close, 26), "macd": macd, "macd_signal": signal}
    for column, values in expected.items():
        np.testing.assert_allclose(features[column][500:], values[500:], rtol=0, atol=1e-9)


@pytest.mark.requirement("ING-18", "FE-08")
def test_peer_features_use_the_previous_bars(bars: pl.DataFrame, features: pl.DataFrame) -> None:
    paired = bars.with_columns(own=pl.col("r").shift(), index=pl.int_range(pl.len())).filter(
        pl.col("own").is_not_null() & pl.col("market_return").is_finite()
    )
    assert 100 < len(paired) < len(bars)
    own, market = paired["own"].to_numpy(), paired["market_return"].to_numpy()
    chosen = features[paired["index"]]
    for i in range(29, len(paired)):
        expected = np.corrcoef(own[i - 29 : i + 1], market[i - 29 : i + 1])[0, 1]
        assert chosen["peer_correlation"][i] == pytest.approx(expected, abs=1e-9)
    sigma = (features["log_return"] / features["return_z"])[paired["index"]].to_numpy()
    divergence = np.convolve(own - market, np.ones(15), "valid") / sigma[14:] / math.sqrt(15)
    moved = np.isfinite(sigma[14:])
    np.testing.assert_allclose(chosen["divergence_z_15"].to_numpy()[14:][moved], divergence[moved], rtol=1e-9)


def test_round_trip_is_the_smaller_of_rise_and_fall(bars: pl.DataFrame, features: pl.DataFrame) -> None:
    high, low, close, r = (bars[name].to_numpy() for name in ("high", "low", "close", "r"))
    for i in range(100, COUNT, 7):
        window = slice(i - 29, i + 1)
        peak = int(np.argmax(high[window]))
        floor = min(low[window][: max(peak, 1)])
        sigma = math.sqrt(np.mean(r[i - 60 : i] ** 2)) * math.sqrt(30)
        rise, fall = math.log(high[window][peak] / floor), math.log(high[window][peak] / close[i])
        assert features["round_trip_30"][i] == pytest.approx(min(rise, fall) / sigma, rel=1e-9, abs=1e-12)


def test_run_length_counts_bars_that_move_the_same_way(bars: pl.DataFrame, features: pl.DataFrame) -> None:
    expected, run = [], 0
    for move in bars["r"].fill_null(0).sign().to_list():
        run = int(move) if run * move <= 0 else run + int(move)
        expected.append(max(-20, min(20, run)))
    assert features["run_length"][1:].to_list() == expected[1:]


def test_session_features_follow_the_session(bars: pl.DataFrame, features: pl.DataFrame) -> None:
    minute = bars["minute_of_session"].to_numpy()
    np.testing.assert_allclose(features["minute_sin"], np.sin(2 * np.pi * minute / 1440), atol=1e-12)
    np.testing.assert_allclose(features["minute_cos"], np.cos(2 * np.pi * minute / 1440), atol=1e-12)
    assert features["minutes_to_close"].to_list() == (1440.0 - minute).tolist()
    assert features["in_session"].to_list() == [1.0] * COUNT
    value = pl.col("volume") * (pl.col("high") + pl.col("low") + pl.col("close")) / 3
    vwap = (value.cum_sum() / pl.col("volume").cum_sum()).over("session_id")
    expected = bars.select(pl.col("close") / vwap - 1).to_series().to_numpy()
    assert features["new_session"].sum() == bars["session_id"].n_unique() > 2
    np.testing.assert_allclose(features["vwap_distance"], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("minute", "inside"), [(-1.0, 0.0), (0.0, 1.0), (389.0, 1.0), (390.0, 0.0)])
def test_in_session_at_the_borders_counts_the_opening_only(minute: float, inside: float) -> None:
    bar = np.array([[10, 11, 9, 10, 5, 1, minute, 390, math.nan, 0]], dtype=np.float64)
    assert compute(bar)["in_session"][0] == inside


def test_flat_market_has_zeros_and_no_infinities() -> None:
    bars = np.tile(np.array([10.1, 10.1, 10.1, 10.1, 500, 1, 5, 390, 0.0, 3]), (200, 1))
    last = compute(bars).row(-1, named=True)
    zero = ("return_z", "return_z_15", "bollinger_z", "volume_z", "macd_relative", "range_ratio", "drawdown_15", "gap")
    assert {name: last[name] for name in zero} == dict.fromkeys(zero, 0.0)
    assert last["rsi_14"] == 50.0
    assert math.isnan(last["peer_correlation"])


def test_jump_after_a_flat_period_is_large_and_finite() -> None:
    bars = np.tile(np.array([10.0, 10.0, 10.0, 10.0, 500, 1, 5, 390, 0.0, 3]), (200, 1))
    bars[-1, [kernel.HIGH, kernel.CLOSE]] = 10.1
    last = compute(bars).row(-1, named=True)
    assert last["return_z"] == pytest.approx(math.log(1.01) / kernel.RETURN_FLOOR)
    assert all(not math.isinf(value) for value in last.values())


def test_every_feature_is_defined_once_there_are_enough_bars() -> None:
    bars = market_context(market_bars(seed=5, count=400))
    inputs = kernel_inputs(bars.filter(pl.col("symbol") == "BBB"), always_open())
    inputs[:, kernel.VOLUME] = np.maximum(inputs[:, kernel.VOLUME], 100.0)
    inputs[:, kernel.PEERS_RETURN] = np.linspace(-1e-3, 1e-3, 400)
    features = compute(inputs)
    assert features[70:].select(pl.any_horizontal(pl.all().is_nan()).any()).item() is False
    assert features[:60]["return_z"].is_nan().all()


def test_model_columns_do_not_depend_on_the_price_level(inputs: np.ndarray, features: pl.DataFrame) -> None:
    scaled = inputs.copy()
    scaled[:, : kernel.VOLUME] *= 37.0
    model = list(CORE_V1.model_columns)
    np.testing.assert_allclose(compute(scaled).select(model), features.select(model), rtol=1e-6, atol=1e-9)
    assert not np.allclose(compute(scaled)["sma_20"][100:], features["sma_20"][100:])


def test_first_value_of_each_feature_matches_the_documentation(repository: Path) -> None:
    count = 120
    bars = market_context(pl.concat([symbol_bars(name, i, count, quiet=0, gaps=0) for i, name in enumerate("ABC")]))
    features = compute(kernel_inputs(bars[:count], always_open()))
    rows = (repository / "docs" / "features.md").read_text().splitlines()
    documented = {
        match[1]: int(match[2])
        for row in rows
        if (match := re.match(r"\| `(\w+)`.*\| (\d+)(?![\d]| pairs)[^|]*\|$", row))
    }
    assert len(documented) >= kernel.N_FEATURES - 4
    assert {name: int(features[name].is_not_nan().arg_max()) + 1 for name in documented} == documented  # type: ignore[arg-type]


def test_missing_values_have_one_bit_pattern(inputs: np.ndarray) -> None:
    odd = inputs.copy()
    odd[:, kernel.PEERS_RETURN] = -math.nan  # the sign of a NaN must not affect a hash
    out = compute(odd).to_numpy()
    assert set(np.ascontiguousarray(out).view(np.uint64)[np.isnan(out)].tolist()) == {0x7FF8000000000000}
