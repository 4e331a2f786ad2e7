"""Splitting of bars into ticks whose aggregation gives the bars again; ``feed`` sends these ticks to the queue."""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.frames import TICK_SCHEMA, UTC_MICROSECONDS, conform
from surveillance_pipelines.contracts.market import TIMEFRAME_MINUTES

Floats = npt.NDArray[np.float64]

FEWEST_TICKS: Final = 4
"""Minimum number of ticks per bar: one each for open, high, low and close."""

_MINUTE_US: Final = 60_000_000


def ticks_from_bars(bars: pl.DataFrame, per_bar: int, seed: int) -> pl.DataFrame:
    """Return ticks whose aggregation has the same open, high, low, close and volume as the bars.

    The first tick of a bar is its open and the last its close. A rising bar reaches its low first, a falling bar its
    high. All other prices are drawn between low and high. Whole volumes are split into whole sizes, so that their sum
    is exact. A bar without volume gives ticks of size 0.

    Args:
        bars: one revision per bar, columns of ``BAR_SCHEMA``.
        per_bar: ticks per bar, at least four.
        seed: seed of prices, sizes and instants.

    Returns:
        ``TICK_SCHEMA`` in order of event time; the source is that of the bars, the knowledge time is the event time.

    Raises:
        InvalidInputError: if ``per_bar`` is below four.
    """
    if per_bar < FEWEST_TICKS:
        raise InvalidInputError(
            f"expected at least {FEWEST_TICKS} ticks per bar (open, high, low, close), got {per_bar}"
        )
    random = np.random.default_rng(seed)
    minutes = bars["timeframe"].replace_strict(dict(TIMEFRAME_MINUTES), return_dtype=pl.Int64).to_numpy()
    starts = bars["bar_start"].dt.timestamp("us").to_numpy()
    columns = {
        "symbol": pl.Series(np.repeat(bars["symbol"].to_numpy(), per_bar), dtype=pl.String),
        "event_time": _instants(starts, minutes * _MINUTE_US, per_bar, random).ravel(),
        "price": _prices(bars, per_bar, random).ravel(),
        "volume": _sizes(bars["volume"].to_numpy(), per_bar, random).ravel(),
        "source": pl.Series(np.repeat(bars["source"].to_numpy(), per_bar), dtype=pl.String),
    }
    ticks = pl.DataFrame(columns).with_columns(pl.col("event_time").cast(UTC_MICROSECONDS))
    return to_tick_schema(ticks).sort("event_time", "symbol", maintain_order=True)


def to_tick_schema(ticks: pl.DataFrame) -> pl.DataFrame:
    """Return ticks with every column of ``TICK_SCHEMA``; absent columns are null or derived from the event time."""
    derived = {"date": pl.col("event_time").dt.date()}
    if "knowledge_time" not in ticks.columns:
        derived["knowledge_time"] = pl.col("event_time")
    absent = {name: pl.lit(None) for name in TICK_SCHEMA.names() if name not in {*ticks.columns, *derived}}
    whole = ticks.with_columns(**derived, **absent)
    return conform(whole, TICK_SCHEMA)


def _instants(
    starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], per_bar: int, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return [n, per_bar] instants, ascending within each bar: one in each of ``per_bar`` equal slices."""
    slices = (np.arange(per_bar) + random.random((len(starts), per_bar))) / per_bar
    return starts[:, None] + np.minimum((slices * lengths[:, None]).astype(np.int64), lengths[:, None] - 1)


def _prices(bars: pl.DataFrame, per_bar: int, random: np.random.Generator) -> Floats:
    """Return [n, per_bar] prices: open first, close last, high and low at two positions in between."""
    open_, high, low, close = (bars[name].to_numpy() for name in ("open", "high", "low", "close"))
    prices = low[:, None] + random.random((bars.height, per_bar)) * (high - low)[:, None]
    prices = np.clip(prices, low[:, None], high[:, None])
    prices[:, 0], prices[:, -1] = open_, close
    early = 1 + random.integers(0, (per_bar - 2) // 2, bars.height)
    late = per_bar - 2 - random.integers(0, (per_bar - 2) // 2, bars.height)
    rows, rises = np.arange(bars.height), close >= open_
    prices[rows, early] = np.where(rises, low, high)
    prices[rows, late] = np.where(rises, high, low)
    return prices


def _sizes(volume: Floats, per_bar: int, random: np.random.Generator) -> Floats:
    """Return [n, per_bar] sizes that sum to the volume: exactly if it is whole, else up to rounding."""
    weights = random.dirichlet(np.full(per_bar, 2.0), len(volume))
    sizes = weights * volume[:, None]
    whole = (volume == np.floor(volume))[:, None]
    sizes = np.where(whole, np.floor(sizes), sizes)
    sizes[:, -1] = np.maximum(volume - sizes[:, :-1].sum(axis=1), 0.0)
    return sizes
