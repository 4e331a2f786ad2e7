"""Conversion of frames of bars to the kernel's input."""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.market import TIMEFRAME_MINUTES, MarketCentre
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.market import MINUTE_US, log_returns, peer_returns

_PRICES: Final = ("open", "high", "low", "close")
_MARKET_COLUMNS: Final = {"market_return": pl.Float64, "market_peers": pl.Int32, "market_centre": pl.String}


def market_context(bars: pl.DataFrame, centre: MarketCentre = "mean") -> pl.DataFrame:
    """Return the revision-0 bars, sorted by symbol and start, with ``market_return`` and ``market_peers`` filled.

    A bar served with this centre keeps its recorded values. The others are derived from the frame, which must therefore
    contain every symbol.

    Args:
        bars: ``BAR_SCHEMA`` columns of one timeframe; the market columns may be absent. Without ``market_centre``, the
            recorded values are means.
        centre: which centre of the peers' returns.

    Raises:
        InvalidInputError: if there are several timeframes, or a symbol has two revision-0 bars with the same start.
    """
    first = _with_market_columns(bars.filter(pl.col("revision") == 0).sort("symbol", "bar_start"))
    if first.is_empty():
        return _with_market(first, np.empty(0), np.empty(0, dtype=np.int64), centre)
    _require_unique(first)
    symbols = first["symbol"].rank("dense").cast(pl.Int64).to_numpy()
    starts = first["bar_start"].dt.timestamp("us").to_numpy()
    returns = log_returns(symbols, first["close"].to_numpy())
    wanted = ~first.select(recorded(centre)).to_series().to_numpy()
    values, peers = peer_returns(starts, symbols, returns, _step(first), centre=centre, wanted=wanted)
    return _with_market(first, values, peers, centre)


def recorded(centre: MarketCentre) -> pl.Expr:
    """Return whether a bar was served, and its recorded market return is this centre."""
    return pl.col("market_peers").is_not_null() & (pl.col("market_centre").fill_null("mean") == centre)


def kernel_inputs(bars: pl.DataFrame, sessions: SessionTable) -> NDArray[np.float64]:
    """Return the kernel's input rows, f8[n, 10], in the order of ``bars``: the transpose of ``input_columns``.

    Args:
        bars: bars with ``market_return`` and ``market_peers``, result of ``market_context``.
        sessions: sessions of every calendar that the symbols trade on.

    Raises:
        InvalidInputError: if a price is not finite and positive, or a volume is negative or infinite.
    """
    return np.ascontiguousarray(input_columns(bars, sessions).T)


def input_columns(bars: pl.DataFrame, sessions: SessionTable) -> NDArray[np.float64]:
    """Return the batch kernel's input, f8[10, n], one contiguous row for each of ``kernel.INPUTS``.

    Args:
        bars: see ``kernel_inputs``.
        sessions: see ``kernel_inputs``.

    Raises:
        InvalidInputError: see ``kernel_inputs``.
    """
    _require_sane(bars)
    columns = np.empty((len(kernel.INPUTS), len(bars)))
    for row, name in enumerate(_PRICES):
        columns[row] = bars[name].to_numpy()
    columns[kernel.VOLUME] = bars["volume"].fill_null(0.0).fill_nan(0.0).to_numpy()
    columns[kernel.PEERS_RETURN] = bars["market_return"].fill_null(np.nan).to_numpy()
    columns[kernel.PEERS] = bars["market_peers"].fill_null(0).to_numpy()
    _fill_sessions(columns, bars, sessions)
    return columns


def _fill_sessions(columns: NDArray[np.float64], bars: pl.DataFrame, sessions: SessionTable) -> None:
    starts = bars["bar_start"].dt.timestamp("us").to_numpy()
    tables: dict[str, SessionTable] = {}
    calendars: dict[str, str] = {}
    for symbol in bars["symbol"].unique().to_list():
        table = sessions.for_symbol(symbol)
        tables[table.calendar] = table
        calendars[symbol] = table.calendar
    calendar_of_row = bars["symbol"].replace_strict(calendars, return_dtype=pl.String) if calendars else None
    for calendar, table in tables.items():
        chosen = (calendar_of_row == calendar).to_numpy()
        positions = table.positions(starts[chosen])
        for row, values in zip((kernel.SESSION_ID, kernel.MINUTE, kernel.SESSION_MINUTES), positions, strict=True):
            columns[row, chosen] = values


def _with_market_columns(bars: pl.DataFrame) -> pl.DataFrame:
    absent = [
        pl.lit(None, dtype=dtype).alias(name) for name, dtype in _MARKET_COLUMNS.items() if name not in bars.columns
    ]
    return bars.with_columns(absent)


def _with_market(
    bars: pl.DataFrame, values: NDArray[np.float64], peers: NDArray[np.int64], centre: MarketCentre
) -> pl.DataFrame:
    kept = recorded(centre)
    return bars.with_columns(
        market_return=pl.when(kept).then(pl.col("market_return").fill_null(np.nan)).otherwise(pl.Series(values)),
        market_peers=pl.when(kept).then("market_peers").otherwise(pl.Series(peers).cast(pl.Int32)),
        market_centre=pl.lit(centre),
    )


def _step(bars: pl.DataFrame) -> int:
    timeframes = bars["timeframe"].unique().to_list()
    if len(timeframes) != 1:
        raise InvalidInputError(f"expected bars of one timeframe, was {sorted(timeframes)}; compute each separately")
    return TIMEFRAME_MINUTES[timeframes[0]] * MINUTE_US


def _require_unique(bars: pl.DataFrame) -> None:
    repeated = bars.filter(pl.struct("symbol", "bar_start").is_duplicated())
    if not repeated.is_empty():
        symbol, start = repeated.select("symbol", "bar_start").row(0)
        raise InvalidInputError(
            f"expected one revision-0 bar per symbol and start, was {len(repeated)} repeated, first {symbol} {start}; "
            "resolve the sources of the bars first"
        )


def _require_sane(bars: pl.DataFrame) -> None:
    bad_price = pl.any_horizontal(
        ~(pl.col(name).is_not_null() & pl.col(name).is_finite() & (pl.col(name) > 0)) for name in _PRICES
    )
    bad_volume = ((pl.col("volume") < 0) | pl.col("volume").is_infinite()).fill_null(value=False)
    bad = bars.filter(bad_price | bad_volume)
    if not bad.is_empty():
        symbol, start = bad.select("symbol", "bar_start").row(0)
        raise InvalidInputError(
            f"expected finite positive prices and a volume of at least 0, {len(bad)} bars differ, "
            f"first {symbol} {start}; refuse such rows at ingestion"
        )
