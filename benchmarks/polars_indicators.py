"""The same columns as ``indicators.talib_columns``, computed with polars-talib over the symbol.

Four layers, so that shared expressions are computed once.
"""

import math

import polars as pl
import polars_talib as plta

from benchmarks.indicators import COLUMNS, Floats
from surveillance_pipelines.features import kernel

_GROUP = "symbol"


def frame_of(market: list[Floats]) -> pl.DataFrame:
    """Return the bars of all symbols as one frame sorted by symbol."""
    parts = [
        pl.from_numpy(bars, schema=list(kernel.INPUTS)).with_columns(pl.lit(f"S{i:02d}").alias(_GROUP))
        for i, bars in enumerate(market)
    ]
    return pl.concat(parts, rechunk=True)


def polars_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """Return ``COLUMNS`` of every row of ``frame_of``, missing values null or NaN."""
    layers = (_first(), _second(), _third(), _fourth())
    lazy = frame.lazy()
    for layer in layers:
        lazy = lazy.with_columns(**layer)
    return lazy.select(COLUMNS).collect()


def _first() -> dict[str, pl.Expr]:
    close, opens, volume = pl.col("close"), pl.col("open"), pl.col("volume")
    last = close.log().shift(1).over(_GROUP)
    angle = pl.col("minute_of_session") * (2.0 * math.pi / 1440.0)
    height = pl.col("high") - pl.col("low")
    return {
        "log_return": close.log() - last,
        "gap": opens.log() - last,
        "range": height / close,
        "close_location": (close - pl.col("low")) / height - 0.5,
        "wick_ratio": 1.0 - (close - opens).abs() / height,
        "minute_sin": angle.sin(),
        "minute_cos": angle.cos(),
        "logged": (volume + 1.0).log(),
        "sma_20": plta.sma(close, timeperiod=20).over(_GROUP),
        "ema_12": plta.ema(close, timeperiod=12).over(_GROUP),
        "ema_26": plta.ema(close, timeperiod=26).over(_GROUP),
        "macds": plta.macd(close, fastperiod=12, slowperiod=26, signalperiod=9).over(_GROUP),
        "rsi_14": plta.rsi(close, timeperiod=14).over(_GROUP),
        "atr_14": plta.atr(pl.col("high"), pl.col("low"), close, timeperiod=14).over(_GROUP),
        "deviation": plta.stddev(close, timeperiod=20).over(_GROUP),
        "highest": plta.max(pl.col("high"), timeperiod=15).over(_GROUP),
        "lowest": plta.min(pl.col("low"), timeperiod=15).over(_GROUP),
        "volume_ratio": volume / plta.sma(volume, timeperiod=20).shift(1).over(_GROUP),
    }


def _second() -> dict[str, pl.Expr]:
    r, move = pl.col("log_return"), pl.col("log_return").fill_null(0.0)
    squares, close = r * r, pl.col("close")
    volume = pl.col("volume")
    floor = kernel.RETURN_FLOOR
    macd, signal = (pl.col("macds").struct[i] for i in (0, 1))
    return {
        "sigma": plta.sma(squares, timeperiod=60).sqrt().shift(1).over(_GROUP).clip(lower_bound=floor),
        "realised_volatility": plta.sma(squares, timeperiod=20).over(_GROUP).sqrt(),
        "short": plta.sma(squares, timeperiod=5).over(_GROUP).sqrt(),
        "relative_return": r.shift(1).over(_GROUP) - pl.col("market_return"),
        "range_ratio": pl.col("range") / plta.sma(pl.col("range"), timeperiod=20).shift(1).over(_GROUP).clip(floor),
        "volume_z": _z("logged"),
        "illiquidity": ((move.abs() + floor) / (volume * close)).log(),
        "flow_balance_10": (plta.sum(volume * move.sign(), timeperiod=10) / plta.sum(volume, timeperiod=10)).over(
            _GROUP
        ),
        "sign_balance_10": plta.sum(r.sign(), timeperiod=10).over(_GROUP) / 10.0,
        "peer_correlation": plta.correl(r.shift(1), pl.col("market_return"), timeperiod=30).over(_GROUP),
        "macd": macd,
        "macd_signal": signal,
        "macd_relative": macd / pl.max_horizontal(pl.col("atr_14"), floor * close),
        "atr_relative": pl.col("atr_14") / close,
        "sma_distance": close / pl.col("sma_20") - 1.0,
        "bollinger_z": (close - pl.col("sma_20")) / pl.max_horizontal(pl.col("deviation"), floor * close),
    }


def _third() -> dict[str, pl.Expr]:
    sigma, logged = pl.col("sigma"), pl.col("close").log()
    unit = sigma * math.sqrt(15.0)
    return {
        "return_z": pl.col("log_return") / sigma,
        "gap_z": pl.col("gap") / sigma,
        "return_z_5": plta.mom(logged, timeperiod=5).over(_GROUP) / (sigma * math.sqrt(5.0)),
        "return_z_15": plta.mom(logged, timeperiod=15).over(_GROUP) / unit,
        "drawdown_15": (pl.col("highest").log() - logged) / unit,
        "runup_15": (logged - pl.col("lowest").log()) / unit,
        "volatility_ratio": pl.col("short") / sigma,
        "market_return_z": pl.col("market_return") / sigma,
        "divergence_z_15": plta.sum(pl.col("relative_return"), timeperiod=15).over(_GROUP) / unit,
        "illiquidity_z": _z("illiquidity"),
        "volume_z_5": plta.sma(pl.col("volume_z"), timeperiod=5).over(_GROUP),
    }


def _fourth() -> dict[str, pl.Expr]:
    return {"price_volume_divergence": pl.col("return_z").abs() - pl.col("volume_z")}


def _z(name: str) -> pl.Expr:
    values = pl.col(name)
    mean = plta.sma(values, timeperiod=60).shift(1).over(_GROUP)
    spread = plta.stddev(values, timeperiod=60).shift(1).over(_GROUP)
    return (values - mean) / spread.clip(lower_bound=kernel.LOG_VOLUME_FLOOR)
