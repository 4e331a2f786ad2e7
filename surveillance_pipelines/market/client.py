"""The base class of bar vendors: batches, attempts, pauses, row validation and counts.

To add a vendor, extend ``MarketDataClient`` with its ``source``, its request for one symbol (``history``), and the
meaning of its errors (``failure``). Add its name to ``Source`` and ``SOURCE_PRECEDENCE`` in ``contracts/market.py``.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import ClassVar, Final, Literal

import polars as pl

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, to_datetime, to_iso
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.market import TIMEFRAME_MINUTES, Adjustment, Source, Timeframe
from surveillance_pipelines.market.bar_frames import complete_bars, empty_bars
from surveillance_pipelines.market.row_checks import RowRefusal, check_bars

Outcome = Literal["ok", "empty", "rate_limited", "malformed", "unknown_symbol", "unreachable"]

RETRIED: Final[frozenset[Outcome]] = frozenset({"rate_limited", "unreachable"})
"""Outcomes that are retried after a pause."""
FIRST_WAIT_SECONDS: Final = 2.0
"""Pause before the second attempt; doubled for each further attempt, and lengthened by up to 50% at random."""
THREADS: Final = 4
"""Concurrent requests. Vendors limit the rate, so more concurrency would only cause more refusals."""

_SEVERITY: Final[dict[Outcome, int]] = {
    "empty": 0, "ok": 1, "unknown_symbol": 2, "malformed": 3, "unreachable": 4, "rate_limited": 5,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SymbolOutcome:
    """The outcome of one symbol."""

    outcome: Outcome
    reason: str
    rows: int = 0
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The result of a fetch.

    Attributes:
        frame: ``BAR_SCHEMA``; each row has its source and adjustment.
        outcomes: one for every requested symbol.
        refusals: rows that did not land, each with its reason.
        duplicates: number of rows that repeat another one exactly.
        unfinished: number of bars left out because their interval had not ended.
        rows_in: rows received = landed + refused + duplicates + unfinished.
        batch_id: id of this fetch.
        notes: remarks for users of the rows.
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
        """Symbols with an outcome other than ``ok``."""
        return tuple(sorted(symbol for symbol, result in self.outcomes.items() if result.outcome != "ok"))


@dataclass(frozen=True, slots=True)
class BarRequest:
    """One request to a vendor: a symbol's bars from ``start`` (included) to ``end`` (excluded), both UTC."""

    symbol: str
    start: datetime
    end: datetime
    interval: Timeframe
    adjustment: Adjustment


@dataclass(frozen=True, slots=True)
class _Response:
    request: BarRequest
    result: SymbolOutcome
    rows: pl.DataFrame | None = None


class MarketDataClient(ABC):
    """A vendor of bars. Every symbol ends with an outcome; the failure of one symbol does not affect others."""

    source: ClassVar[Source]
    """Source recorded in every row."""
    longest_window: ClassVar[Mapping[Timeframe, timedelta]] = {}
    """Longest range that one request may cover, by interval; intervals not listed have no limit."""

    def __init__(
        self,
        *,
        adjustment: Adjustment = "split",
        batch_size: int = 20,
        max_attempts: int = 4,
        seed: int = 0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Store the options common to all fetches.

        Args:
            adjustment: adjustment of the prices.
            batch_size: number of symbols that are requested, and retried, together.
            max_attempts: attempts per request.
            seed: seed of the jitter in pauses.
            clock: for pauses and the knowledge time.
        """
        self.adjustment: Adjustment = adjustment
        self._batch_size = batch_size
        self._max_attempts = max_attempts
        self._jitter = random.Random(seed)  # noqa: S311  not for security: it spreads retries
        self._clock = clock

    @abstractmethod
    def history(self, request: BarRequest) -> pl.DataFrame:
        """Return one symbol's bars: ``symbol``, ``bar_start`` (UTC), OHLC, ``volume``; null where there is no value.

        Raises:
            Exception: any; ``failure`` converts it to an outcome.
        """

    @abstractmethod
    def failure(self, symbol: str, error: Exception) -> SymbolOutcome:
        """Return the outcome of a symbol whose ``history`` raised an error."""

    def stated_adjustment(self, interval: Timeframe) -> Adjustment:
        """Return the adjustment that the bars of an interval actually have."""
        del interval
        return self.adjustment

    def around_requests(self) -> AbstractContextManager[object]:
        """Return a context manager for requests, such as one that suppresses a library's warnings."""
        return nullcontext()

    def fetch_bars(self, symbols: Sequence[str], *, start: date, end: date, interval: Timeframe = "1m") -> FetchResult:
        """Return the bars of many symbols, and an outcome for each symbol. Failures of a symbol do not raise.

        Args:
            symbols: symbols in the vendor's spelling.
            start: first UTC date, included.
            end: UTC date, excluded.
            interval: length of the bars.

        Raises:
            InvalidInputError: if ``end`` is not after ``start``.
        """
        if end <= start:
            raise InvalidInputError(f"expected start < end, got {start} and {end}")
        names, responses = sorted(set(symbols)), list[_Response]()
        windows = _windows(start, end, self.longest_window.get(interval))
        adjustment = self.stated_adjustment(interval)
        for first in range(0, len(names), self._batch_size):
            batch = names[first : first + self._batch_size]
            responses += self._send_all(
                [BarRequest(symbol, *window, interval, adjustment) for symbol in batch for window in windows]
            )
        return self._collect(responses, interval, adjustment)

    def _send_all(self, requests: Iterable[BarRequest]) -> list[_Response]:
        """Send all requests, and retry those with a retryable outcome after a pause."""
        pending, done = list(requests), list[_Response]()
        for attempt in range(1, self._max_attempts + 1):
            with self.around_requests(), ThreadPoolExecutor(max_workers=THREADS) as pool:
                responses = list(pool.map(self._request, pending))
            counted = [replace(response, result=replace(response.result, attempts=attempt)) for response in responses]
            is_last = attempt == self._max_attempts
            done += [response for response in counted if is_last or response.result.outcome not in RETRIED]
            pending = [response.request for response in counted if not is_last and response.result.outcome in RETRIED]
            if not pending:
                break
            self._clock.sleep(FIRST_WAIT_SECONDS * 2 ** (attempt - 1) * (1.0 + 0.5 * self._jitter.random()))
        return done

    def _request(self, request: BarRequest) -> _Response:
        """Return the rows of one request, or its failure as an outcome."""
        try:
            rows = self.history(request)
        except Exception as error:  # noqa: BLE001  boundary to a vendor: every failure becomes an outcome
            return _Response(request, self.failure(request.symbol, error))
        if rows.is_empty():
            return _Response(request, SymbolOutcome("empty", f"there are no bars of {request.symbol} in this range"))
        return _Response(request, SymbolOutcome("ok", "bars received", rows.height), rows)

    def _collect(self, responses: Sequence[_Response], interval: Timeframe, adjustment: Adjustment) -> FetchResult:
        known_at = self._clock.now_us()
        batch_id = f"{self.source}-{to_iso(known_at)}"
        notes = () if adjustment == self.adjustment else (f"{interval} prices have no other adjustment: {adjustment}",)
        outcomes = _outcomes(responses)
        received = [response.rows for response in responses if response.rows is not None]
        if not received:
            return FetchResult(empty_bars(), outcomes, (), 0, 0, 0, batch_id, notes)
        # The last bar of a running session is not complete.
        over = pl.col("bar_start") + pl.duration(minutes=TIMEFRAME_MINUTES[interval]) <= to_datetime(known_at)
        finished = [rows.filter(over) for rows in received]
        # Check each response separately: a refusal records the position of its row within the response.
        checked = [check_bars(rows) for rows in finished]
        frame = complete_bars(
            pl.concat([part.good for part in checked]), source=self.source, adjustment=adjustment, timeframe=interval,
            batch_id=batch_id, knowledge_time=known_at,
        )  # fmt: skip
        rows_in = sum(rows.height for rows in received)
        return FetchResult(
            frame,
            outcomes,
            refusals=tuple(refusal for part in checked for refusal in part.refusals),
            duplicates=sum(part.duplicates for part in checked),
            unfinished=rows_in - sum(rows.height for rows in finished),
            rows_in=rows_in,
            batch_id=batch_id,
            notes=notes,
        )


def _windows(start: date, end: date, longest: timedelta | None) -> list[tuple[datetime, datetime]]:
    edges = [datetime(start.year, start.month, start.day, tzinfo=UTC)]
    last = datetime(end.year, end.month, end.day, tzinfo=UTC)
    while edges[-1] < last:
        edges.append(last if longest is None else min(edges[-1] + longest, last))
    return list(pairwise(edges))


def _outcomes(responses: Sequence[_Response]) -> dict[str, SymbolOutcome]:
    """Return one outcome per symbol: the failure of any of its windows, else ok if any window had bars, else empty."""
    merged: dict[str, SymbolOutcome] = {}
    for response in responses:
        result, before = response.result, merged.get(response.request.symbol)
        if before is not None:
            worse = max(before, result, key=lambda one: _SEVERITY[one.outcome])
            attempts = max(before.attempts, result.attempts)
            result = replace(worse, rows=before.rows + result.rows, attempts=attempts)
        merged[response.request.symbol] = result
    return merged
