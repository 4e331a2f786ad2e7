"""Bars from Yahoo Finance through yfinance: the fallback for a silent queue, and history for a first training.

The client uses ``Ticker.history`` because ``yfinance.download`` turns every failure into an empty column and a log
line.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final

import polars as pl

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.errors import InvalidInputError, NotReadyError, extra_remedy
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.market import Adjustment, Source, Timeframe
from surveillance_pipelines.market.client import BarRequest, FetchResult, MarketDataClient, SymbolOutcome

_PRICES: Final = ("Open", "High", "Low", "Close", "Volume")
_NOT_FOUND: Final = re.compile(r"\b404\b")
_TOO_MANY: Final = re.compile(r"\b429\b")
_UNKNOWN_WORDS: Final = ("no data found", "not found", "delisted", "no timezone")


def fetch_bars(
    symbols: Sequence[str],
    *,
    start: date,
    end: date,
    interval: Timeframe = "1m",
    adjustment: Adjustment = "split",
    extended_hours: bool = False,
    cache_folder: Path,
    batch_size: int = 20,
    max_attempts: int = 4,
    seed: int = 0,
    clock: Clock = SYSTEM_CLOCK,
) -> FetchResult:
    """Return Yahoo's bars of many symbols and an outcome for each: ``YahooClient.fetch_bars`` in one call."""
    client = YahooClient(
        cache_folder, extended_hours=extended_hours, adjustment=adjustment, batch_size=batch_size,
        max_attempts=max_attempts, seed=seed, clock=clock,
    )  # fmt: skip
    return client.fetch_bars(symbols, start=start, end=end, interval=interval)


class YahooClient(MarketDataClient):
    """Yahoo Finance. Symbols are in Yahoo's spelling, such as ``AAPL``, ``BTC-USD``, ``^GSPC``."""

    source: ClassVar[Source] = "yfinance"
    longest_window: ClassVar[Mapping[Timeframe, timedelta]] = {
        "1m": timedelta(days=7),  # Yahoo refuses more than eight days
        "5m": timedelta(days=50),  # it refuses more than sixty
        "15m": timedelta(days=50),
    }

    def __init__(self, cache_folder: Path, *, extended_hours: bool = False, **options: Any) -> None:
        """Store the options common to all fetches.

        Args:
            cache_folder: folder for yfinance's time zones and cookies.
            extended_hours: include pre-market and post-market, whose volume Yahoo reports as 0.
            options: options of ``MarketDataClient``. Yahoo's prices are adjusted for splits; ``none`` reverses that,
                and ``split+dividend`` also adjusts for dividends. Intraday prices carry no dividends, so their rows
                record at most ``split``.
        """
        super().__init__(**options)
        self._cache_folder = cache_folder
        self._extended_hours = extended_hours

    def fetch_bars(self, symbols: Sequence[str], *, start: date, end: date, interval: Timeframe = "1m") -> FetchResult:
        """Return the bars of many symbols; Yahoo serves every timeframe except ``4h``.

        Raises:
            InvalidInputError: if Yahoo does not serve the interval, or ``end`` is not after ``start``.
            NotReadyError: if yfinance is not installed.
        """
        try:
            import yfinance
        except ModuleNotFoundError as error:
            raise NotReadyError(
                "expected the package yfinance, found none",
                remedy=extra_remedy("yahoo"),
            ) from error

        if interval == "4h":
            raise InvalidInputError(
                "expected an interval that Yahoo serves (1m, 5m, 15m, 1h, 1d), got 4h: resample 1m bars"
            )
        self._cache_folder.mkdir(parents=True, exist_ok=True)
        yfinance.set_tz_cache_location(str(self._cache_folder))
        yfinance.config.debug.hide_exceptions = False
        return super().fetch_bars(symbols, start=start, end=end, interval=interval)

    def stated_adjustment(self, interval: Timeframe) -> Adjustment:
        return "split" if self.adjustment == "split+dividend" and interval != "1d" else self.adjustment

    @contextmanager
    def around_requests(self) -> Iterator[None]:
        import pandas as pd

        with warnings.catch_warnings():
            # yfinance uses pandas calls that pandas 4 will remove.
            warnings.simplefilter("ignore", pd.errors.PandasDeprecationWarning)
            yield

    def history(self, request: BarRequest) -> pl.DataFrame:
        import yfinance

        ticker = yfinance.Ticker(request.symbol)
        daily = request.interval == "1d"
        history = ticker.history(
            interval=request.interval,
            start=request.start.date() if daily else request.start,  # a date is interpreted in the exchange's time zone
            end=request.end.date() if daily else request.end,
            prepost=self._extended_hours,
            auto_adjust=request.adjustment == "split+dividend",
            keepna=True,  # keep rows without prices, so that they are refused with a reason
        )
        rows = _rows(request.symbol, history, request.interval)
        if request.adjustment != "none" or rows.is_empty():
            return rows
        # Yahoo adjusts prices for every split up to today, so splits after the range also count.
        splits = ticker.history(interval="1d", start=request.start.date(), actions=True)["Stock Splits"]
        return undo_splits(rows, _split_table(splits, request.interval))

    def failure(self, symbol: str, error: Exception) -> SymbolOutcome:
        from yfinance.exceptions import YFDataException, YFPricesMissingError, YFRateLimitError, YFTickerMissingError

        text = f"{type(error).__name__}: {error}"
        if isinstance(error, YFRateLimitError) or _TOO_MANY.search(text):
            return SymbolOutcome("rate_limited", f"Yahoo refused {symbol} for now ({text}): ask less often or later")
        if isinstance(error, YFPricesMissingError):
            return _without_prices(symbol, error.yahoo_reason or "")
        if isinstance(error, YFTickerMissingError) or _NOT_FOUND.search(text):
            return SymbolOutcome("unknown_symbol", f"Yahoo does not know {symbol} ({text}): check the spelling")
        if isinstance(error, (YFDataException, OSError)):
            return SymbolOutcome("unreachable", f"Yahoo could not be reached for {symbol} ({text}): check the network")
        return SymbolOutcome("malformed", f"Yahoo's answer for {symbol} does not have the expected form ({text})")


def undo_splits(rows: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    """Return split-adjusted bars as they traded: multiply prices and divide volume by the ratios of all later splits.

    Args:
        rows: ``bar_start`` (UTC), OHLC, ``volume``.
        splits: ``at`` (the instant at which the split takes effect) and ``ratio`` (4.0 for a 4-for-1 split).
    """
    factor = pl.lit(1.0)
    for at, ratio in splits.select("at", "ratio").iter_rows():
        factor = factor * pl.when(pl.col("bar_start") < at).then(ratio).otherwise(1.0)
    return rows.with_columns(pl.col("open", "high", "low", "close") * factor, pl.col("volume") / factor)


def _without_prices(symbol: str, reason: str) -> SymbolOutcome:
    if any(word in reason.lower() for word in _UNKNOWN_WORDS):
        return SymbolOutcome("unknown_symbol", f"Yahoo does not know {symbol} ({reason}): check the spelling")
    return SymbolOutcome("empty", f"Yahoo has no bars of {symbol} in this range ({reason or 'no reason given'})")


def _rows(symbol: str, history: Any, interval: Timeframe) -> pl.DataFrame:
    """Return a yfinance frame as ``symbol``, ``bar_start`` and lower-case prices."""
    prices = {name.lower(): history[name].to_numpy(dtype="float64") for name in _PRICES}
    starts = _starts(history.index, interval)
    frame = pl.DataFrame({"bar_start": starts, **prices}, schema_overrides={"bar_start": UTC_MICROSECONDS})
    # pandas represents a missing number as NaN.
    return frame.select(pl.lit(symbol).alias("symbol"), "bar_start", pl.col(*prices).fill_nan(None))


def _split_table(splits: Any, interval: Timeframe) -> pl.DataFrame:
    """Return the splits of a daily yfinance series; a split takes effect at 00:00 of its day in the exchange's zone.

    Intraday bars cannot use the UTC date: Sydney's trading day begins on the previous UTC date.
    """
    found = [
        (at, float(ratio)) for at, ratio in zip(_starts(splits.index, interval), splits.to_list(), strict=True) if ratio
    ]
    return pl.DataFrame(found, schema={"at": UTC_MICROSECONDS, "ratio": pl.Float64}, orient="row")


def _starts(index: Any, interval: Timeframe) -> list[datetime]:
    """Return the instants of a pandas index in UTC; a daily bar starts at 00:00 UTC of its date."""
    if interval == "1d":
        return [datetime(moment.year, moment.month, moment.day, tzinfo=UTC) for moment in index]
    return [moment.to_pydatetime().astimezone(UTC) for moment in index]
