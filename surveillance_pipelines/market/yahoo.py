"""Bars from Yahoo Finance through yfinance: the fallback for a silent queue, and history for a first training.

Every symbol ends with an outcome; one symbol's failure never touches another's. ``Ticker.history`` is used rather than
``yfinance.download``, which turns every failure into an empty column and a log line.
"""

import random
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, to_datetime, to_iso
from surveillance_pipelines.contracts.market import TIMEFRAME_MINUTES, UTC_MICROSECONDS, Adjustment, Timeframe
from surveillance_pipelines.market.bar_frames import complete_bars, empty_bars
from surveillance_pipelines.market.row_checks import RowRefusal, judge_bars

Outcome = Literal["ok", "empty", "rate_limited", "malformed", "unknown_symbol", "unreachable"]

RETRIED: Final[frozenset[Outcome]] = frozenset({"rate_limited", "unreachable"})
"""Outcomes that waiting can change."""
FIRST_WAIT_SECONDS: Final = 2.0
"""Before the second attempt; doubled for each further one, with up to half of it added at random."""
LONGEST_MINUTE_WINDOW: Final = timedelta(days=7)
"""Yahoo refuses requests for 1-minute bars of more than eight days."""
THREADS: Final = 4
"""Requests at a time: Yahoo limits by rate, so more would only be refused sooner."""

_PRICES: Final = ("Open", "High", "Low", "Close", "Volume")
_UNKNOWN_WORDS: Final = ("no data found", "not found", "delisted", "no timezone")


@dataclass(frozen=True, slots=True)
class SymbolOutcome:
    """How one symbol ended."""

    outcome: Outcome
    reason: str
    rows: int = 0
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class YahooResult:
    """What Yahoo gave.

    Attributes:
        frame: ``BAR_SCHEMA``, source ``yfinance``; each row states its adjustment.
        outcomes: one for every symbol asked for.
        refusals: rows that did not land, each with its reason.
        duplicates: rows that repeat another one exactly.
        unfinished: bars left out because their interval was not over.
        rows_in: rows received = landed + refused + duplicates + unfinished.
        batch_id: of this fetch.
        notes: what a reader of the rows should know.
    """

    frame: pl.DataFrame
    outcomes: dict[str, SymbolOutcome]
    refusals: tuple[RowRefusal, ...]
    duplicates: int
    unfinished: int
    rows_in: int
    batch_id: str
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Symbols that did not end ``ok``."""
        return tuple(sorted(symbol for symbol, ended in self.outcomes.items() if ended.outcome != "ok"))


@dataclass(frozen=True, slots=True)
class _Request:
    symbol: str
    start: datetime
    end: datetime
    interval: Timeframe
    adjustment: Adjustment
    extended_hours: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    request: _Request
    ended: SymbolOutcome
    rows: pl.DataFrame | None = None


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
) -> YahooResult:
    """Return the bars of many symbols, and for each symbol how it went. Never raises for a symbol.

    Args:
        symbols: Yahoo's names, such as ``AAPL``, ``BTC-USD``, ``^GSPC``.
        start: first UTC date, included.
        end: UTC date, excluded.
        interval: a timeframe that Yahoo serves: all but ``4h``.
        adjustment: what to adjust daily prices for. Yahoo's own are adjusted for splits; ``none`` undoes that,
            ``split+dividend`` goes further. Intraday prices know no dividends: they come as ``split`` at most, and the
            rows say so.
        extended_hours: with pre- and post-market, whose volume Yahoo reports as 0.
        cache_folder: where yfinance keeps its time zones and cookies.
        batch_size: symbols between two looks at the clock (``YFINANCE_BATCH_SIZE``).
        max_attempts: per request (``YFINANCE_MAX_ATTEMPTS``).
        seed: of the jitter in waiting.
        clock: for waiting and for the knowledge time.

    Raises:
        ValueError: if the interval is not served, or the dates are out of order.
    """
    if interval == "4h":
        raise ValueError("expected an interval that Yahoo serves (1m, 5m, 15m, 1h, 1d), got 4h: resample 1h or 1m bars")
    if end <= start:
        raise ValueError(f"expected start < end, got {start} and {end}")
    _prepare(cache_folder)
    stated: Adjustment = "split" if adjustment == "split+dividend" and interval != "1d" else adjustment
    names = sorted(set(symbols))
    answers: list[_Answer] = []
    jitter = random.Random(seed)  # noqa: S311  spreads retries, guards nothing
    for first in range(0, len(names), batch_size):
        requests = [
            _Request(symbol, *window, interval, stated, extended_hours)
            for symbol in names[first : first + batch_size]
            for window in _windows(start, end, interval)
        ]
        answers += _answer_all(requests, max_attempts=max_attempts, jitter=jitter, clock=clock)
    notes = () if stated == adjustment else ("intraday prices carry no dividends: rows say adjustment split",)
    return _collect(answers, interval, stated, notes, clock)


def _prepare(cache_folder: Path) -> None:
    """Point yfinance's caches at our folder and let failures be exceptions."""
    import yfinance

    cache_folder.mkdir(parents=True, exist_ok=True)
    yfinance.set_tz_cache_location(str(cache_folder))
    yfinance.config.debug.hide_exceptions = False


def _windows(start: date, end: date, interval: Timeframe) -> list[tuple[datetime, datetime]]:
    longest = LONGEST_MINUTE_WINDOW if interval == "1m" else timedelta(days=50) if interval != "1d" else end - start
    edges = [datetime(start.year, start.month, start.day, tzinfo=UTC)]
    last = datetime(end.year, end.month, end.day, tzinfo=UTC)
    while edges[-1] < last:
        edges.append(min(edges[-1] + longest, last))
    return list(pairwise(edges))


def _answer_all(
    requests: Iterable[_Request], *, max_attempts: int, jitter: random.Random, clock: Clock
) -> list[_Answer]:
    """Ask for every request, and again after a pause for those that waiting can help."""
    pending, done = list(requests), list[_Answer]()
    for attempt in range(1, max_attempts + 1):
        answers = _ask_all(pending)
        counted = [replace(answer, ended=replace(answer.ended, attempts=attempt)) for answer in answers]
        is_last = attempt == max_attempts
        done += [answer for answer in counted if is_last or answer.ended.outcome not in RETRIED]
        pending = [answer.request for answer in counted if not is_last and answer.ended.outcome in RETRIED]
        if not pending:
            break
        clock.sleep(FIRST_WAIT_SECONDS * 2 ** (attempt - 1) * (1.0 + 0.5 * jitter.random()))
    return done


def _ask_all(requests: Sequence[_Request]) -> list[_Answer]:
    import pandas as pd

    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=THREADS) as pool:
        # yfinance uses pandas calls that pandas 4 will drop; nothing here can change that.
        warnings.simplefilter("ignore", pd.errors.PandasDeprecationWarning)
        return list(pool.map(_ask, requests))


def _ask(request: _Request) -> _Answer:
    """Return the rows of one request, or its failure as an outcome."""
    try:
        rows = _history(request)
    except Exception as error:  # noqa: BLE001  the boundary to a vendor's library: every failure becomes an outcome
        return _Answer(request, _failure(request.symbol, error))
    if rows.is_empty():
        return _Answer(request, SymbolOutcome("empty", f"Yahoo has no bars of {request.symbol} in this range"))
    return _Answer(request, SymbolOutcome("ok", "bars received", rows.height), rows)


def _history(request: _Request) -> pl.DataFrame:
    import yfinance

    ticker = yfinance.Ticker(request.symbol)
    daily = request.interval == "1d"
    history = ticker.history(
        interval=request.interval,
        start=request.start.date() if daily else request.start,  # a date means the exchange's own
        end=request.end.date() if daily else request.end,
        prepost=request.extended_hours,
        auto_adjust=request.adjustment == "split+dividend",
        keepna=True,  # a row without prices is refused with a reason, not dropped
    )
    rows = _rows(request.symbol, history, request.interval)
    if request.adjustment != "none" or rows.is_empty():
        return rows
    # Yahoo adjusts prices for every split up to today, so the splits after the range matter too.
    splits = ticker.history(interval="1d", start=request.start.date(), actions=True)["Stock Splits"]
    return undo_splits(rows, _split_table(splits))


def _rows(symbol: str, history: Any, interval: Timeframe) -> pl.DataFrame:
    """Return a yfinance frame as ``symbol``, ``bar_start`` and lower-case prices; a daily bar starts at 00:00 UTC."""
    index = history.index
    if interval == "1d":
        starts = [datetime(moment.year, moment.month, moment.day, tzinfo=UTC) for moment in index]
    else:
        starts = [moment.to_pydatetime().astimezone(UTC) for moment in index]
    prices = {name.lower(): history[name].to_numpy(dtype="float64") for name in _PRICES}
    frame = pl.DataFrame({"bar_start": starts, **prices}, schema_overrides={"bar_start": UTC_MICROSECONDS})
    # pandas spells a missing number as NaN.
    return frame.select(pl.lit(symbol).alias("symbol"), "bar_start", pl.col(*prices).fill_nan(None))


def _split_table(splits: Any) -> pl.DataFrame:
    found = [
        (datetime(day.year, day.month, day.day, tzinfo=UTC), float(ratio)) for day, ratio in splits.items() if ratio
    ]
    return pl.DataFrame(found, schema={"at": UTC_MICROSECONDS, "ratio": pl.Float64}, orient="row")


def undo_splits(rows: pl.DataFrame, splits: pl.DataFrame) -> pl.DataFrame:
    """Return split-adjusted bars as they traded: prices times, volume over, the ratios of all later splits.

    Args:
        rows: ``bar_start`` (UTC), OHLC, ``volume``.
        splits: ``at`` (00:00 UTC of the first day at the new price) and ``ratio`` (4.0 for four new shares for one).
    """
    factor = pl.lit(1.0)
    for at, ratio in splits.select("at", "ratio").iter_rows():
        factor = factor * pl.when(pl.col("bar_start") < at).then(ratio).otherwise(1.0)
    return rows.with_columns(pl.col("open", "high", "low", "close") * factor, pl.col("volume") / factor)


def _failure(symbol: str, error: Exception) -> SymbolOutcome:
    from yfinance.exceptions import YFDataException, YFPricesMissingError, YFRateLimitError, YFTickerMissingError

    text = f"{type(error).__name__}: {error}"
    if isinstance(error, YFRateLimitError) or " 429" in text:
        return SymbolOutcome("rate_limited", f"Yahoo refused {symbol} for now ({text}): ask less often or later")
    if isinstance(error, YFPricesMissingError):
        reason = error.yahoo_reason or ""
        if any(word in reason.lower() for word in _UNKNOWN_WORDS):
            return SymbolOutcome("unknown_symbol", f"Yahoo does not know {symbol} ({reason}): check the spelling")
        return SymbolOutcome("empty", f"Yahoo has no bars of {symbol} in this range ({reason or 'no reason given'})")
    if isinstance(error, YFTickerMissingError) or "404" in text:
        return SymbolOutcome("unknown_symbol", f"Yahoo does not know {symbol} ({text}): check the spelling")
    if isinstance(error, (YFDataException, OSError)):
        return SymbolOutcome("unreachable", f"Yahoo could not be reached for {symbol} ({text}): check the network")
    return SymbolOutcome("malformed", f"Yahoo's answer for {symbol} does not have the expected form ({text})")


def _collect(
    answers: Sequence[_Answer], interval: Timeframe, adjustment: Adjustment, notes: tuple[str, ...], clock: Clock
) -> YahooResult:
    known_at = clock.now_us()
    batch_id = f"yfinance-{to_iso(known_at)}"
    received = [answer.rows for answer in answers if answer.rows is not None]
    outcomes = _outcomes(answers)
    if not received:
        return YahooResult(empty_bars(), outcomes, (), 0, 0, 0, batch_id, notes)
    rows = pl.concat(received)
    length = pl.duration(minutes=TIMEFRAME_MINUTES[interval])
    # The last bar of a running session is still being traded; a daily bar's date says too little to tell.
    over = pl.col("bar_start") + length <= to_datetime(known_at)
    finished = rows.filter(over)
    judged = judge_bars(finished)
    frame = complete_bars(
        judged.good, source="yfinance", adjustment=adjustment, timeframe=interval, batch_id=batch_id,
        knowledge_time=known_at,
    )  # fmt: skip
    unfinished = rows.height - finished.height
    return YahooResult(frame, outcomes, judged.refusals, judged.duplicates, unfinished, rows.height, batch_id, notes)


def _outcomes(answers: Sequence[_Answer]) -> dict[str, SymbolOutcome]:
    """Return one outcome per symbol: a failure in any of its windows, else ok if any window had bars, else empty."""
    merged: dict[str, SymbolOutcome] = {}
    for answer in answers:
        ended, before = answer.ended, merged.get(answer.request.symbol)
        if before is not None:
            worse = max(before, ended, key=lambda one: _SEVERITY[one.outcome])
            attempts = max(before.attempts, ended.attempts)
            ended = replace(worse, rows=before.rows + ended.rows, attempts=attempts)
        merged[answer.request.symbol] = ended
    return merged


_SEVERITY: Final[dict[Outcome, int]] = {
    "empty": 0, "ok": 1, "unknown_symbol": 2, "malformed": 3, "unreachable": 4, "rate_limited": 5,
}  # fmt: skip
