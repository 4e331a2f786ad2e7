"""A seeded synthetic market of 1-minute bars, used by the demo and the tests. It does not model a specific real market.

It reproduces these properties of real markets: U-shaped volume and volatility over the session, volatility clusters
(GARCH(1,1), Bollerslev 1986), fat tails, one common factor that correlates the symbols, rare jumps, overnight gaps,
volume that follows volatility, price ticks, and minutes without a trade in thinly traded symbols.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.hashing import sha256_json, sha256_text
from surveillance_pipelines.market.bar_frames import complete_bars, empty_bars

Floats = npt.NDArray[np.float64]

_MINUTE_US: Final = 60_000_000
_FACTOR: Final = "market factor"
_TAIL_DEGREES: Final = 6.0
"""Degrees of freedom of Student's t: minute returns of stocks have finite variance and a kurtosis far above normal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedSymbol:
    """One instrument of the synthetic market."""

    symbol: str
    price: float = 100.0  # before the first session
    daily_volatility: float = 0.02  # standard deviation of the session's log return
    beta: float = 1.0  # of the common factor
    daily_volume: float = 5e6  # units in a session
    no_trade_probability: float = 0.0  # of a minute at midday; lower at open and close
    calendar: str = "XNYS"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketConfig:
    """A synthetic market: its symbols, seed and volatility parameters."""

    symbols: tuple[SimulatedSymbol, ...]
    seed: int
    market_volatility: float = 0.01  # of the factor's daily log return
    garch_alpha: float = 0.08  # weight of the last squared shock
    garch_beta: float = 0.90  # weight of the last variance
    jumps_per_session: float = 0.05  # per symbol
    jump_scale: float = 0.3  # standard deviation of a jump in daily volatilities
    overnight_scale: float = 0.5  # standard deviation of the overnight gap in daily volatilities
    tick_size: float = 0.01

    def __post_init__(self) -> None:
        names = [symbol.symbol for symbol in self.symbols]
        if not names or len(set(names)) != len(names):
            raise InvalidInputError(f"expected at least one symbol and each once, got {names}")
        if self.garch_alpha + self.garch_beta >= 1:
            raise ValueError("expected garch_alpha + garch_beta < 1, else the variance has no mean")


def default_market(symbols: Sequence[str], seed: int, calendar: str = "XNYS") -> MarketConfig:
    """Return a market of the given symbols, each with parameters drawn from the seed and its name."""
    return MarketConfig(symbols=tuple(_character(name, seed, calendar) for name in symbols), seed=seed)


def simulate(config: MarketConfig, sessions: pl.DataFrame) -> pl.DataFrame:
    """Return 1-minute bars of every symbol for every minute of its calendar's sessions.

    A symbol's bars depend on the seed, its own parameters and the sessions, but not on the other symbols. Minutes
    without a trade have volume 0 and repeat the last close.

    Args:
        config: the market.
        sessions: rows of ``SESSION_SCHEMA``; sessions of other calendars are ignored.

    Returns:
        ``BAR_SCHEMA`` with source ``simulated``; the knowledge time is the bar's end.

    Raises:
        InvalidInputError: if ``sessions`` has no session of a symbol's calendar.
    """
    batch_id = f"simulated-{sha256_json(asdict(config))[:16]}"
    frames = [_simulate_symbol(config, symbol, _grid(sessions, symbol.calendar)) for symbol in config.symbols]
    bars = pl.concat(frames) if frames else empty_bars()
    return complete_bars(bars, source="simulated", adjustment="none", timeframe="1m", batch_id=batch_id)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The minutes of a calendar. All arrays are [n]."""

    starts: npt.NDArray[np.int64]  # µs
    is_first: npt.NDArray[np.bool_]  # of its session
    session: npt.NDArray[np.int64]  # 0, 1, …
    diurnal: Floats  # volatility profile, root mean square 1 over a session
    volume_share: Floats  # of the session's volume, sum 1 over a session
    per_session: Floats  # minutes in the bar's session


def _grid(sessions: pl.DataFrame, calendar: str) -> _Grid:
    rows = sessions.filter(pl.col("calendar") == calendar).sort("opens_at")
    if rows.is_empty():
        raise InvalidInputError(
            f"expected sessions of calendar {calendar}, got none: build them for the days to simulate"
        )
    opens = rows["opens_at"].dt.timestamp("us").to_numpy()
    lengths = (rows["closes_at"].dt.timestamp("us").to_numpy() - opens) // _MINUTE_US
    session = np.repeat(np.arange(len(lengths)), lengths)
    minute = np.concatenate([np.arange(length) for length in lengths])
    # 1 at open and close, 0 at midday: the U shape of intraday volume and volatility (Jain & Joh 1988).
    edge = (2.0 * (minute + 0.5) / lengths[session] - 1.0) ** 2
    shape = 0.6 + 1.4 * edge
    variance = (0.75 + edge) ** 2
    return _Grid(
        starts=opens[session] + minute * _MINUTE_US,
        is_first=minute == 0,
        session=session,
        diurnal=np.sqrt(variance / _session_mean(variance, session, lengths)),
        volume_share=shape / (_session_mean(shape, session, lengths) * lengths[session]),
        per_session=lengths[session].astype(np.float64),
    )


def _session_mean(values: Floats, session: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Floats:
    return (np.bincount(session, weights=values) / lengths)[session]


def _generator(seed: int, name: str) -> np.random.Generator:
    """Return the random generator of one name: a child of the seed that no other name shares."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(sha256_text(name)[:16], 16)])))


def _character(name: str, seed: int, calendar: str) -> SimulatedSymbol:
    draw = _generator(seed, f"character of {name}").random(5).tolist()
    daily_volume = 10.0 ** (4.8 + 2.4 * draw[0])
    return SimulatedSymbol(
        symbol=name,
        price=round(10.0 ** (1.2 + 1.4 * draw[1]), 2),
        daily_volatility=0.012 + 0.018 * draw[2],
        beta=0.6 + 0.9 * draw[3],
        daily_volume=daily_volume,
        no_trade_probability=0.25 * draw[4] if daily_volume < 3e5 else 0.0,
        calendar=calendar,
    )


def _clustered_returns(config: MarketConfig, random: np.random.Generator, grid: _Grid) -> tuple[Floats, Floats]:
    """Return unit-variance minute returns with volatility clusters, and the cluster's volatility at each minute."""
    count = len(grid.starts)
    shocks = random.standard_t(_TAIL_DEGREES, count) * math.sqrt((_TAIL_DEGREES - 2) / _TAIL_DEGREES)
    factors = config.garch_alpha * shocks**2 + config.garch_beta
    omega = 1.0 - config.garch_alpha - config.garch_beta
    variance, variances = 1.0, np.empty(count)
    for index, factor in enumerate(factors.tolist()):
        variances[index] = variance
        variance = min(omega + factor * variance, 25.0)  # limit bursts to five times normal volatility
    volatility = np.sqrt(variances)
    return shocks * volatility, volatility


def _log_returns(config: MarketConfig, symbol: SimulatedSymbol, grid: _Grid) -> tuple[Floats, Floats, Floats]:
    """Return the log returns within each minute, those before its open, and the volatility of each minute."""
    factor_random = _generator(config.seed, f"{_FACTOR} {symbol.calendar}")
    factor, _ = _clustered_returns(config, factor_random, grid)
    factor_gap = factor_random.standard_normal(int(grid.session[-1]) + 1)[grid.session]
    random = _generator(config.seed, symbol.symbol)
    own, cluster = _clustered_returns(config, random, grid)
    own_gap = random.standard_normal(int(grid.session[-1]) + 1)[grid.session]

    common = symbol.beta * config.market_volatility
    rest = math.sqrt(max(symbol.daily_volatility**2 - common**2, (0.3 * symbol.daily_volatility) ** 2))
    per_minute = grid.diurnal / np.sqrt(grid.per_session)
    jumps = random.random(len(own)) < config.jumps_per_session / grid.per_session
    sizes = random.standard_normal(len(own)) * config.jump_scale * symbol.daily_volatility
    inside = (common * factor + rest * own) * per_minute
    inside += np.where(jumps, sizes, 0.0) - 0.5 * (symbol.daily_volatility * per_minute) ** 2
    before = np.where(grid.is_first, config.overnight_scale * (common * factor_gap + rest * own_gap), 0.0)
    return inside, before, symbol.daily_volatility * per_minute * cluster


def _simulate_symbol(config: MarketConfig, symbol: SimulatedSymbol, grid: _Grid) -> pl.DataFrame:
    inside, before, volatility = _log_returns(config, symbol, grid)
    random = _generator(config.seed, f"trades of {symbol.symbol}")
    volume = _volumes(symbol, grid, np.abs(inside) / (symbol.daily_volatility / np.sqrt(grid.per_session)), random)
    path = math.log(symbol.price) + np.cumsum(inside + before)
    close = _hold(path, volume > 0, math.log(symbol.price))
    previous = np.concatenate([[math.log(symbol.price)], close[:-1]])
    open_ = np.where(volume > 0, previous + before + 0.1 * volatility * random.standard_normal(len(path)), close)
    high, low = _extremes(open_, close, np.where(volume > 0, volatility, 0.0), random)
    prices = {"open": open_, "high": high, "low": low, "close": close}
    trades = np.minimum(np.ceil(volume / random.lognormal(math.log(120.0), 0.4, len(volume))), volume)
    rounded = {name: _on_ticks(np.exp(logs), config.tick_size) for name, logs in prices.items()}
    columns = {"symbol": [symbol.symbol] * len(path), "bar_start": grid.starts, **rounded, "volume": volume}
    frame = pl.DataFrame({**columns, "trades": trades.astype(np.int64)})
    return frame.with_columns(pl.col("bar_start").cast(UTC_MICROSECONDS))


def _volumes(symbol: SimulatedSymbol, grid: _Grid, activity: Floats, random: np.random.Generator) -> Floats:
    """Return whole units per minute: U shape, persistent log-normal noise, more when prices move, 0 without trades."""
    count = len(grid.starts)
    noise = _persistent_noise(random.standard_normal(count), 0.7)
    expected = symbol.daily_volume * grid.volume_share * np.exp(0.45 * noise - 0.1) * (0.7 + 0.4 * activity)
    quiet = symbol.no_trade_probability * np.minimum(1.0 / (grid.volume_share * grid.per_session), 1.0)
    return np.where(random.random(count) < quiet, 0.0, np.maximum(np.round(expected), 1.0))


def _persistent_noise(shocks: Floats, memory: float) -> Floats:
    """Return an AR(1) series of unit variance."""
    fresh, value, series = math.sqrt(1.0 - memory**2), 0.0, np.empty(len(shocks))
    for index, shock in enumerate(shocks.tolist()):
        value = memory * value + fresh * shock
        series[index] = value
    return series


def _hold(path: Floats, trades: npt.NDArray[np.bool_], first: float) -> Floats:
    """Return the path with the last traded value repeated over minutes without a trade."""
    last = np.maximum.accumulate(np.where(trades, np.arange(len(path)), -1))
    return np.where(last >= 0, path[last], first)


def _extremes(open_: Floats, close: Floats, volatility: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw high and low of a Brownian bridge from open to close: exact marginal laws, inexact joint law."""
    spread = (close - open_) ** 2
    up, down = (-2.0 * volatility**2 * np.log1p(-random.random(len(open_))) for _ in range(2))
    middle = open_ + close
    return 0.5 * (middle + np.sqrt(spread + up)), 0.5 * (middle - np.sqrt(spread + down))


def _on_ticks(prices: Floats, tick_size: float) -> Floats:
    """Round to the tick size. Rounding preserves the order of prices, so low ≤ open, close ≤ high still holds."""
    decimals = max(0, math.ceil(-math.log10(tick_size)))
    return np.round(np.maximum(np.round(prices / tick_size), 1.0) * tick_size, decimals)
