"""The same columns as ``indicators.talib_columns``, one bar at a time with talipp and arithmetic in Python."""

import math
from collections import deque
from typing import Any, Final

from talipp.indicators import ATR, EMA, MACD, RSI, SMA, StdDev
from talipp.ohlcv import OHLCV

from surveillance_pipelines.features import kernel

_NAN: Final = math.nan


class TalippSymbol:
    """The indicators of one symbol. Histories are truncated regularly, because talipp keeps all values."""

    def __init__(self) -> None:
        self._sma, self._spread = SMA(20), StdDev(20)
        self._fast, self._slow, self._macd = EMA(12), EMA(26), MACD(12, 26, 9)
        self._rsi, self._atr = RSI(14), ATR(14)
        self._squares_60, self._squares_20, self._squares_5 = SMA(60), SMA(20), SMA(5)
        self._ranges = SMA(20)
        self._volumes, self._logged, self._logged_spread = SMA(20), SMA(60), StdDev(60)
        self._illiquid, self._illiquid_spread, self._z_5 = SMA(60), StdDev(60), SMA(5)
        self._signs, self._relative = SMA(10), SMA(15)
        self._signed, self._volumes_10 = SMA(10), SMA(10)
        # talipp has no correlation, so it is computed from means of products.
        self._own, self._peers, self._both = SMA(30), SMA(30), SMA(30)
        self._own_squares, self._peers_squares = SMA(30), SMA(30)
        self._logs: deque[float] = deque(maxlen=16)
        self._highs: deque[float] = deque(maxlen=15)
        self._lows: deque[float] = deque(maxlen=15)
        self._r = _NAN
        self._indicators: list[Any] = [value for value in vars(self).values() if hasattr(value, "purge_oldest")]

    def forget(self, kept: int = 100) -> None:
        """Truncate every indicator's history to its newest values."""
        for indicator in self._indicators:
            if len(indicator) > kept:
                indicator.purge_oldest(len(indicator) - kept)

    def add(self, bar: list[float]) -> dict[str, float]:
        """Process a bar (kernel inputs as Python floats) and return the columns, NaN where there is no value yet."""
        opens, high, low, close, volume, _, minute, _, peers, _ = bar
        log_close = math.log(close)
        last = self._logs[-1] if self._logs else _NAN
        own, r = self._r, log_close - last
        sigma = max(math.sqrt(_last(self._squares_60)), kernel.RETURN_FLOOR)
        width, height = (high - low) / close, high - low
        out = {
            "log_return": r, "gap": math.log(opens) - last, "return_z": r / sigma,
            "gap_z": (math.log(opens) - last) / sigma, "range": width, "close_location": (close - low) / height - 0.5,
            "wick_ratio": 1.0 - abs(close - opens) / height,
            "range_ratio": width / max(_last(self._ranges), kernel.RETURN_FLOOR),
            "minute_sin": math.sin(2.0 * math.pi * minute / 1440.0),
            "minute_cos": math.cos(2.0 * math.pi * minute / 1440.0),
        }  # fmt: skip
        self._ranges.add(width)
        self._logs.append(log_close)
        self._r = r
        out |= self._levels(opens, high, low, close) | self._moves(r, sigma, log_close, high, low)
        out |= self._traded(volume, close, r, out["return_z"]) | self._market(own, peers, sigma)
        return out

    def _levels(self, opens: float, high: float, low: float, close: float) -> dict[str, float]:
        for indicator in (self._sma, self._spread, self._fast, self._slow, self._macd, self._rsi):
            indicator.add(close)
        self._atr.add(OHLCV(opens, high, low, close))
        average, atr = _last(self._sma), _last(self._atr)
        newest = self._macd[-1] if len(self._macd) else None
        macd = _NAN if newest is None or newest.macd is None else newest.macd
        signal = _NAN if newest is None or newest.signal is None else newest.signal
        return {
            "sma_20": average, "ema_12": _last(self._fast), "ema_26": _last(self._slow), "macd": macd,
            "macd_signal": signal, "rsi_14": _last(self._rsi), "atr_14": atr, "atr_relative": atr / close,
            "bollinger_z": (close - average) / max(_last(self._spread), kernel.RETURN_FLOOR * close),
            "sma_distance": close / average - 1.0, "macd_relative": macd / max(atr, kernel.RETURN_FLOOR * close),
        }  # fmt: skip

    def _moves(self, r: float, sigma: float, log_close: float, high: float, low: float) -> dict[str, float]:
        self._highs.append(high)
        self._lows.append(low)
        if not math.isnan(r):
            for indicator in (self._squares_60, self._squares_20, self._squares_5):
                indicator.add(r * r)
            self._signs.add(float((r > 0.0) - (r < 0.0)))
        unit, logs = sigma * math.sqrt(15.0), self._logs
        return {
            "realised_volatility": math.sqrt(_last(self._squares_20)),
            "volatility_ratio": math.sqrt(_last(self._squares_5)) / sigma,
            "return_z_5": (log_close - logs[-6]) / (sigma * math.sqrt(5.0)) if len(logs) > 5 else _NAN,
            "return_z_15": (log_close - logs[0]) / unit if len(logs) == 16 else _NAN,
            "drawdown_15": (math.log(max(self._highs)) - log_close) / unit,
            "runup_15": (log_close - math.log(min(self._lows))) / unit,
            "sign_balance_10": _last(self._signs),
        }

    def _traded(self, volume: float, close: float, r: float, return_z: float) -> dict[str, float]:
        move = 0.0 if math.isnan(r) else r
        logged = math.log(1.0 + volume)
        illiquidity = math.log((abs(move) + kernel.RETURN_FLOOR) / (volume * close))
        z, illiquidity_z = (
            (value - _last(mean)) / max(_last(spread), kernel.LOG_VOLUME_FLOOR)
            for value, mean, spread in (
                (logged, self._logged, self._logged_spread), (illiquidity, self._illiquid, self._illiquid_spread),
            )
        )  # fmt: skip
        ratio = volume / _last(self._volumes)
        self._volumes.add(volume)
        for indicator, value in (
            (self._logged, logged), (self._logged_spread, logged), (self._illiquid, illiquidity),
            (self._illiquid_spread, illiquidity), (self._volumes_10, volume),
            (self._signed, volume * ((move > 0.0) - (move < 0.0))),
        ):  # fmt: skip
            indicator.add(value)
        if not math.isnan(z):
            self._z_5.add(z)
        return {
            "volume_z": z, "volume_z_5": _last(self._z_5), "volume_ratio": ratio, "illiquidity_z": illiquidity_z,
            "price_volume_divergence": abs(return_z) - z,
            "flow_balance_10": _last(self._signed) / _last(self._volumes_10),
        }  # fmt: skip

    def _market(self, own: float, peers: float, sigma: float) -> dict[str, float]:
        if not math.isnan(own):
            for indicator, value in (
                (self._relative, own - peers), (self._own, own), (self._peers, peers), (self._both, own * peers),
                (self._own_squares, own * own), (self._peers_squares, peers * peers),
            ):  # fmt: skip
                indicator.add(value)
        means = [_last(mean) for mean in (self._own, self._peers, self._both, self._own_squares, self._peers_squares)]
        x, y, xy, xx, yy = means
        return {
            "market_return": peers, "market_return_z": peers / sigma, "relative_return": own - peers,
            "peer_correlation": (xy - x * y) / math.sqrt((xx - x * x) * (yy - y * y)),
            "divergence_z_15": 15.0 * _last(self._relative) / (sigma * math.sqrt(15.0)),
        }  # fmt: skip


def _last(indicator: Any) -> float:
    value = indicator[-1] if len(indicator) else None
    return _NAN if value is None else value
