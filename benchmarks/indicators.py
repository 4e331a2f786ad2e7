"""A simulated market as kernel inputs, and the columns of ``core_v1`` computed with TA-Lib and numpy.

TA-Lib keeps running sums; the kernel recomputes every sum. Windows count the same bars here because every bar has
volume and peers; ``session`` columns, ``vwap_distance``, ``run_length`` and ``round_trip_30`` have no TA-Lib function.
"""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.views import CORE_V1

Floats = npt.NDArray[np.float64]

ABSENT: Final = (
    "vwap_distance", "session_progress", "in_session", "minutes_to_close", "new_session", "has_volume",
    "peers_present", "run_length", "round_trip_30",
)  # fmt: skip
"""Columns that no anchor computes, but the kernel does."""

COLUMNS: Final = tuple(name for name in CORE_V1.columns if name not in ABSENT)
INDICES: Final = [CORE_V1.columns.index(name) for name in COLUMNS]
SETTLED: Final = 600
"""Bars after which the initial value of an exponential mean has decayed; TA-Lib starts at a simple mean."""

SESSION: Final = 390


def market(symbols: int, bars: int, *, seed: int = 11) -> list[Floats]:
    """Return kernel inputs f8[bars, 10] of each symbol: random walks with volume in every minute."""
    rng = np.random.default_rng(seed)
    return [_symbol(rng, bars) for _ in range(symbols)]


def _symbol(rng: np.random.Generator, bars: int) -> Floats:
    close = 100.0 * np.exp(np.cumsum(rng.standard_t(5, bars) * 3e-4))
    opens = np.concatenate([close[:1], close[:-1]]) * np.exp(rng.normal(0, 5e-5, bars))
    spread = close * rng.exponential(2e-4, (2, bars))
    index = np.arange(bars)
    columns = (
        opens, np.maximum(opens, close) + spread[0], np.minimum(opens, close) - spread[1], close,
        1.0 + np.round(rng.lognormal(8, 1, bars)), index // SESSION, index % SESSION, np.full(bars, float(SESSION)),
        rng.normal(0, 2e-4, bars), np.full(bars, 9.0),
    )  # fmt: skip
    return np.column_stack(columns).astype(np.float64)


def talib_columns(bars: Floats) -> dict[str, Floats]:
    """Return ``COLUMNS`` of one symbol, each f8[n], computed with TA-Lib.

    Args:
        bars: kernel inputs f8[n, 10].
    """
    import talib

    ta: Any = talib  # its stubs have no float arrays
    opens, high, low, close, volume = (np.ascontiguousarray(bars[:, i]) for i in range(5))
    peers = np.ascontiguousarray(bars[:, kernel.PEERS_RETURN])
    log_close = ta.LN(close)
    r, gap = log_close - _before(log_close), ta.LN(opens) - _before(log_close)
    squares = r * r
    sigma = np.maximum(np.sqrt(_before(ta.SMA(squares, 60))), kernel.RETURN_FLOOR)
    out = {"log_return": r, "gap": gap, "return_z": r / sigma, "gap_z": gap / sigma}
    out |= _levels(ta, high, low, close) | _horizons(ta, log_close, high, low, r, sigma)
    out |= _volumes(ta, volume, close, r, out["return_z"]) | _peers(ta, peers, r, sigma)
    height = high - low
    width = height / close
    out["range"] = width
    out["range_ratio"] = width / np.maximum(_before(ta.SMA(width, 20)), kernel.RETURN_FLOOR)
    out["close_location"] = (close - low) / height - 0.5
    out["wick_ratio"] = 1.0 - np.abs(close - opens) / height
    out["realised_volatility"] = np.sqrt(ta.SMA(squares, 20))
    out["volatility_ratio"] = np.sqrt(ta.SMA(squares, 5)) / sigma
    angle = (2.0 * math.pi / 1440.0) * bars[:, kernel.MINUTE]
    out["minute_sin"], out["minute_cos"] = ta.SIN(angle), ta.COS(angle)
    return out


def _before(values: Floats) -> Floats:
    shifted = np.empty_like(values)
    shifted[0] = np.nan
    shifted[1:] = values[:-1]
    return shifted


def _levels(ta: Any, high: Floats, low: Floats, close: Floats) -> dict[str, Floats]:
    macd, signal, _ = ta.MACD(close, 12, 26, 9)
    atr, average = ta.ATR(high, low, close, 14), ta.SMA(close, 20)
    return {
        "sma_20": average,
        "ema_12": ta.EMA(close, 12),
        "ema_26": ta.EMA(close, 26),
        "macd": macd,
        "macd_signal": signal,
        "rsi_14": ta.RSI(close, 14),
        "atr_14": atr,
        "atr_relative": atr / close,
        "bollinger_z": (close - average) / np.maximum(ta.STDDEV(close, 20), kernel.RETURN_FLOOR * close),
        "sma_distance": close / average - 1.0,
        "macd_relative": macd / np.maximum(atr, kernel.RETURN_FLOOR * close),
    }


def _horizons(ta: Any, log_close: Floats, high: Floats, low: Floats, r: Floats, sigma: Floats) -> dict[str, Floats]:
    unit = sigma * math.sqrt(15.0)
    return {
        "return_z_5": ta.MOM(log_close, 5) / (sigma * math.sqrt(5.0)),
        "return_z_15": ta.MOM(log_close, 15) / unit,
        "drawdown_15": (ta.LN(ta.MAX(high, 15)) - log_close) / unit,
        "runup_15": (log_close - ta.LN(ta.MIN(low, 15))) / unit,
        "sign_balance_10": ta.SUM(np.sign(r), 10) / 10.0,
    }


def _volumes(ta: Any, volume: Floats, close: Floats, r: Floats, return_z: Floats) -> dict[str, Floats]:
    logged = ta.LN(1.0 + volume)
    move = np.nan_to_num(r)
    illiquidity = ta.LN((np.abs(move) + kernel.RETURN_FLOOR) / (volume * close))
    z = _z(ta, logged)
    return {
        "volume_z": z,
        "volume_z_5": ta.SMA(z, 5),
        "volume_ratio": volume / _before(ta.SMA(volume, 20)),
        "illiquidity_z": _z(ta, illiquidity),
        "price_volume_divergence": np.abs(return_z) - z,
        "flow_balance_10": ta.SUM(volume * np.sign(move), 10) / ta.SUM(volume, 10),
    }


def _z(ta: Any, values: Floats) -> Floats:
    spread = np.maximum(_before(ta.STDDEV(values, 60)), kernel.LOG_VOLUME_FLOOR)
    return (values - _before(ta.SMA(values, 60))) / spread


def _peers(ta: Any, peers: Floats, r: Floats, sigma: Floats) -> dict[str, Floats]:
    own = _before(r)
    relative = own - peers
    return {
        "market_return": peers,
        "market_return_z": peers / sigma,
        "relative_return": relative,
        "peer_correlation": ta.CORREL(own, peers, 30),
        "divergence_z_15": ta.SUM(relative, 15) / (sigma * math.sqrt(15.0)),
    }


def largest_difference(ours: Floats, theirs: dict[str, Floats]) -> tuple[float, str]:
    """Return the largest ``|ours − theirs| / max(|theirs|, 1)`` after ``SETTLED`` bars, and its column; NaN beats all.

    Args:
        ours: f8[n, 48].
        theirs: f8[n] of each of ``COLUMNS``.
    """
    found = []
    for name, index in zip(COLUMNS, INDICES, strict=True):
        left, right = ours[SETTLED:, index], theirs[name][SETTLED:]
        difference = float(np.max(np.abs(left - right) / np.maximum(np.abs(right), 1.0)))
        found.append((math.inf if math.isnan(difference) else difference, name))
    return max(found)
