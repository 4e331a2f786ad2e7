"""Random bars with the irregularities of real ones: gaps, minutes without volume, flat periods, missing peers."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl

from surveillance_pipelines.clock import DAY_US, day_start_us
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS, session_rows
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.bar_frames import complete_bars

FIRST_DAY = date(2024, 3, 4)
START = datetime(2024, 3, 4, 21, 30, tzinfo=UTC)
MINUTE_US = 60_000_000


def always_open(days: int = 40) -> SessionTable:
    """Sessions of a market that is always open."""
    first = day_start_us(FIRST_DAY) - 20 * DAY_US
    opens = [first + i * DAY_US for i in range(days + 20)]
    dates = [date.fromordinal(FIRST_DAY.toordinal() - 20 + i) for i in range(days + 20)]
    return SessionTable.from_frame(
        session_rows(("24/7", day, start, start + DAY_US) for day, start in zip(dates, opens, strict=True))
    )


def symbol_bars(
    symbol: str, seed: int, count: int, *, quiet: float = 0.3, gaps: float = 0.05, flat: float = 0.1
) -> pl.DataFrame:
    """Return bars of one symbol that were never served, ``BAR_SCHEMA``.

    Args:
        symbol: name of the symbol.
        seed: seed of all random values.
        count: number of bars.
        quiet: share of minutes without volume, some of them null.
        gaps: share of bars after which up to 400 minutes are missing.
        flat: share of bars without a price change.
    """
    rng = np.random.default_rng(seed)
    skips = np.where(rng.random(count) < gaps, rng.integers(1, 400, count), 0)
    starts = np.cumsum(1 + skips) * MINUTE_US + int(START.timestamp() * 1e6)
    moves = np.where(rng.random(count) < flat, 0.0, rng.standard_t(3, count) * 1e-3)
    close = np.round(50.0 * np.exp(np.cumsum(moves)), 2)
    opens = np.round(np.concatenate([[50.0], close[:-1]]) * np.exp(rng.normal(0, 2e-4, count)), 2)
    spread = np.round(rng.exponential(0.02, count), 2)
    volume = np.round(rng.lognormal(8, 1, count)) * (rng.random(count) >= quiet)
    frame = pl.DataFrame(
        {
            "symbol": symbol,
            "bar_start": pl.Series(starts).cast(UTC_MICROSECONDS),
            "open": opens,
            "high": np.maximum(opens, close) + spread,
            "low": np.minimum(opens, close) - spread,
            "close": close,
            "volume": pl.Series([value if value > 0 or i % 2 else None for i, value in enumerate(volume.tolist())]),
        }
    )
    return complete_bars(frame, source="simulated", adjustment="none", timeframe="1m", batch_id="test")


def market_bars(seed: int, count: int, symbols: tuple[str, ...] = ("AAA", "BBB", "CCC")) -> pl.DataFrame:
    """Return bars of several symbols, sorted by symbol and start."""
    return pl.concat([symbol_bars(symbol, seed * 100 + i, count) for i, symbol in enumerate(symbols)])


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    """Return whether two float arrays are bit-identical, including NaN."""
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
    return left.shape == right.shape and np.array_equal(left.view(np.uint64), right.view(np.uint64))
