"""Histories of symbols from ``bars_1m``, with the peers' returns.

The peers' returns of a minute are computed once and kept (``PeerHistory``), so a new symbol costs the reading of its
own bars. If several requests for the same day follow one another, a queue is starting: the bars of all symbols are then
read in one pass and kept until each is asked for or no request follows for a while.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import polars as pl
from deltalake.exceptions import DeltaError

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock, day_start_us
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.engine.feature_history import BarColumns
from surveillance_pipelines.engine.seed import LakeStatus
from surveillance_pipelines.features.market import MINUTE_US, log_returns
from surveillance_pipelines.stores.lake import LostLogError, plain_text
from surveillance_pipelines.stores.lake_days import HISTORY_DAYS, BarTable, Files, LakeDays, RawBars
from surveillance_pipelines.stores.peer_history import PeerHistory
from surveillance_pipelines.telemetry import get_logger

TABLE: Final = "bars_1m"
SINGLE_REQUESTS: Final = 4
"""Requests for one day that are read one by one; reading the bars of 1,000 symbols costs about as much as ten."""
FEW: Final = 64
"""Symbols whose days are read together; more are read day by day, to bound the memory of a read."""
UNREADABLE_SECONDS: Final = 30
"""Pause before a table that cannot be read is read again; an attempt may take as long as the store's own retries."""
UNREADABLE_US: Final = UNREADABLE_SECONDS * MICROSECONDS
REASON_LENGTH: Final = 300
"""Characters of a reason: Delta's errors name every file of the log."""
_PEER_HISTORIES: Final = 4
"""Peer histories kept: those of the serving view and of one that is about to serve, each for two reaches."""
_EARLIER: Final = 2
"""Bars before the first wanted one, from which the symbol's own return of the minute before it follows."""

_LOG = get_logger("lake_history")


class TableGoneError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """The table could be opened before, or was damaged, and is no longer there: it is being repaired or replaced."""


class BarReader(Protocol):
    """The part of the lake's interface that seeding uses."""

    def open(self, table: str) -> BarTable | None: ...

    def read(self, table: str, *, days: Any, schema: pl.Schema | None = None) -> pl.DataFrame: ...


READ_ERRORS: Final = (
    DeltaError,
    LostLogError,
    TableGoneError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
)
"""What reading raises if the table is damaged or its store cannot be reached, after the store's own retries."""


class HistoryKey(NamedTuple):
    """What histories depend on: the last day, the files up to it, the bars wanted before it, and the centre."""

    day: date
    files: tuple[Files, ...]
    wanted: int
    centre: MarketCentre


class LakeHistory:
    """Reads histories of symbols from the lake. Used by one thread; ``forget`` may be called by another.

    Args:
        lake: the lake.
        on_unreadable: called with a sentence, which is also logged, when the table cannot be read. Symbols then start
            without bars of the lake, as if it did not know them: their messages must not wait for a repair. The table
            is read again after a pause. If None, the failure is raised.
        clock: measures the pause.

    Attributes:
        status: of the last call of ``bars``.
    """

    def __init__(
        self, lake: BarReader, on_unreadable: Callable[[str], None] | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._lake: Final = lake
        self._on_unreadable: Final = on_unreadable
        self._clock: Final = clock
        self.status: LakeStatus = "read"
        self._unreadable: str | None = None  # the reason reported last
        self._next_attempt = 0
        self._was_there = False  # the table, whether it could be read or not
        self._days: LakeDays | None = None  # once the table exists
        self._peers: Final[OrderedDict[tuple[date, int, MarketCentre], PeerHistory]] = OrderedDict()
        self._last: HistoryKey | None = None  # of the last request
        self._requests = 0  # for that key, of symbols with bars
        self._kept: dict[str, RawBars] | None = None  # of all symbols not yet asked for, for that key

    def forget(self) -> None:
        """Drop the histories kept for symbols that have not been asked for."""
        self._last, self._kept, self._requests = None, None, 0

    def bars(self, symbols: Collection[str], day: date, wanted: int, centre: MarketCentre) -> dict[str, BarColumns]:
        """Return the bars of symbols with their peers' returns: those of ``day``, and the ``wanted`` before it, if any.

        Args:
            symbols: the symbols; one without bars is absent from the result.
            day: the last UTC day.
            wanted: number of bars before that day.
            centre: which centre of the peers' returns; bars served with it have the recorded values.
        """
        if self._is_paused():
            return {}
        try:
            try:
                found = self._bars(symbols, day, wanted, centre)
            except FileNotFoundError:  # the table was deleted and created again
                self._close()
                found = self._bars(symbols, day, wanted, centre)
        except READ_ERRORS as error:
            self._close()
            self._report(error)
            return {}
        self._unreadable = None
        return found

    def _is_paused(self) -> bool:
        left = self._next_attempt - self._clock.now_us()
        return self._unreadable is not None and 0 < left <= UNREADABLE_US  # longer only if the clock was set back

    def _close(self) -> None:
        self._days = None
        self._peers.clear()
        self.forget()

    def read(self, days: tuple[date, date], schema: pl.Schema) -> pl.DataFrame:
        """Return all bars of a range of days; none if the table cannot be read."""
        if self._is_paused():
            return pl.DataFrame(schema=schema)
        try:
            return self._lake.read(TABLE, days=days, schema=schema)
        except READ_ERRORS as error:
            self._report(error)
            return pl.DataFrame(schema=schema)

    def _report(self, error: BaseException) -> None:
        """Report why the table cannot be read, once until it can or the reason changes; or raise."""
        if self._on_unreadable is None:
            raise error
        reason = f"{type(error).__name__}: {plain_text(error)}"[:REASON_LENGTH]
        self._next_attempt = self._clock.now_us() + UNREADABLE_US
        self.status, self._was_there = "unreadable", True
        if reason != self._unreadable:
            self._unreadable = reason
            sentence = (
                f"the lake's table {TABLE} cannot be read ({reason}); symbols that need their history start without "
                f"bars of the lake, and get them when it can be read, which is tried every {UNREADABLE_SECONDS} s: run "
                "`surveillance doctor`"
            )
            _LOG.warning(sentence)
            self._on_unreadable(sentence)

    def _bars(self, symbols: Collection[str], day: date, wanted: int, centre: MarketCentre) -> dict[str, BarColumns]:
        lake = self._opened()
        if lake is None:
            if self._was_there:
                raise TableGoneError(f"expected the lake's table {TABLE}, found none where it was before")
            self.status = "absent"
            return {}
        self.status, self._was_there = "read", True
        files = tuple(lake.files(each) for each in lake.within(day, HISTORY_DAYS))
        key = HistoryKey(day, files, wanted, centre)
        if key != self._last:
            self._last, self._kept, self._requests = key, None, 0
        reaches = {symbol: reach for symbol in symbols if (reach := _reach(lake, key, symbol)) is not None}
        if not reaches:
            return {}
        self._requests += 1
        kept = self._kept  # another thread may set it to None
        if kept is None and self._requests > SINGLE_REQUESTS:
            kept = self._kept = _read(lake, key, _all_symbols(lake, key), HISTORY_DAYS)
        raw = {} if kept is None else {symbol: kept.pop(symbol) for symbol in reaches if symbol in kept}
        found: dict[str, BarColumns] = {}
        for reach in sorted(set(reaches.values())):
            asked = [symbol for symbol, other in reaches.items() if other == reach]
            missing = [symbol for symbol in asked if symbol not in raw]
            raw |= _read(lake, key, missing, reach)
            found |= self._with_peers(lake, {symbol: raw[symbol] for symbol in asked}, key, reach)
        return found

    def _opened(self) -> LakeDays | None:
        """Return the days of the table's newest version; None if there is no table."""
        if self._days is not None:
            self._days.refresh()
        elif (table := self._lake.open(TABLE)) is not None:
            self._days = LakeDays(table)
        return self._days

    def _with_peers(
        self, lake: LakeDays, raw: Mapping[str, RawBars], key: HistoryKey, reach: int
    ) -> dict[str, BarColumns]:
        """Return the wanted bars of symbols with their market returns: the recorded ones, or those of the peers."""
        parts = {symbol: _Own.of(bars, key) for symbol, bars in raw.items()}
        lengths = np.array([np.count_nonzero(own.derived) for own in parts.values()], dtype=np.int64)
        starts = np.concatenate([own.bars.starts[own.derived] for own in parts.values()])
        returns = np.concatenate([own.before[own.derived] for own in parts.values()])
        peers = self._peer_history(key.day, reach, key.centre)
        market = np.stack(peers.values(lake, list(parts), lengths, starts, returns))
        found, begin = dict[str, BarColumns](), 0
        for (symbol, own), length in zip(parts.items(), lengths.tolist(), strict=True):
            values = np.empty((7, len(own.bars.starts)))
            values[:5] = own.bars.values
            if own.bars.recorded is not None:
                values[5:] = own.bars.recorded[1:]
            values[5:, own.derived] = market[:, begin : begin + length]
            found[symbol] = BarColumns(own.bars.starts, values, key.centre)
            begin += length
        return found

    def _peer_history(self, day: date, reach: int, centre: MarketCentre) -> PeerHistory:
        key = day, reach, centre
        for old in [each for each in self._peers if each[0] < day - timedelta(days=1)]:
            del self._peers[old]
        if key not in self._peers:
            self._peers[key] = PeerHistory(day, reach, centre)
        self._peers.move_to_end(key)
        while len(self._peers) > _PEER_HISTORIES:
            self._peers.popitem(last=False)
        return self._peers[key]


class _Own(NamedTuple):
    """The wanted bars of a symbol.

    Attributes:
        bars: the bars.
        before: f8[n], the symbol's own return of the minute before each bar, NaN if it has no bar there.
        derived: bool[n], bars whose market return must be derived.
    """

    bars: RawBars
    before: np.ndarray
    derived: np.ndarray

    @classmethod
    def of(cls, bars: RawBars, key: HistoryKey) -> "_Own":
        today = int(np.searchsorted(bars.starts, day_start_us(key.day)))
        first = max(0, today - key.wanted)
        returns = log_returns(np.zeros(len(bars.starts), dtype=np.int64), np.ascontiguousarray(bars.values[3]))
        before = np.full(len(bars.starts), np.nan)
        before[1:] = np.where(np.diff(bars.starts) == MINUTE_US, returns[:-1], np.nan)
        wanted = bars.since(first)
        derived = np.ones(len(wanted.starts), dtype=np.bool_) if wanted.recorded is None else wanted.recorded[0] == 0.0
        return cls(wanted, before[first:], derived)


def _reach(lake: LakeDays, key: HistoryKey, symbol: str) -> int | None:
    """Return how many days before the last one a symbol's bars are searched; None if it has none.

    Ten days, or four times as many as long as this finds more bars and the wanted number is not reached.
    """
    reach, known, total, before = HISTORY_DAYS, -1, *_count(lake, key, symbol, HISTORY_DAYS)
    while before < key.wanted and total > known:
        known, reach = total, 4 * reach
        total, before = _count(lake, key, symbol, reach)
    return reach if total else None


def _count(lake: LakeDays, key: HistoryKey, symbol: str, reach: int) -> tuple[int, int]:
    """Return the numbers of a symbol's bars, in all and before the last day, counted up to the wanted number."""
    today = before = 0
    for day in reversed(lake.within(key.day, reach)):
        if before >= key.wanted:
            break
        count = lake.counts(day).get(symbol, 0)
        today, before = (count, before) if day == key.day else (today, before + count)
    return today + before, before


def _all_symbols(lake: LakeDays, key: HistoryKey) -> list[str]:
    """Return the symbols that have the wanted number of bars within ten days; the others are read when asked for."""
    names = {name for day in lake.within(key.day, HISTORY_DAYS) for name in lake.counts(day)}
    return [name for name in sorted(names) if _count(lake, key, name, HISTORY_DAYS)[1] >= key.wanted]


def _read(lake: LakeDays, key: HistoryKey, symbols: Iterable[str], reach: int) -> dict[str, RawBars]:
    """Return the bars of symbols: those of the last day, and as many before it as are wanted, and two more."""
    left = dict.fromkeys(symbols, key.wanted + _EARLIER)
    plan: list[tuple[date, list[str]]] = []  # newest day first
    keep: dict[tuple[date, str], int] = {}
    for day in reversed(lake.within(key.day, reach)):
        if day == key.day:
            plan.append((day, [symbol for symbol in left if symbol in lake.counts(day)]))
            continue
        if not left:
            break
        counts = lake.counts(day)
        here = [symbol for symbol in left if symbol in counts]
        plan.append((day, here))
        for symbol in here:
            keep[day, symbol] = min(counts[symbol], left[symbol])
            left[symbol] -= keep[day, symbol]
            if left[symbol] == 0:
                del left[symbol]
    return _read_plan(lake, key, [(day, here) for day, here in reversed(plan) if here], keep)


def _read_plan(
    lake: LakeDays, key: HistoryKey, plan: list[tuple[date, list[str]]], keep: Mapping[tuple[date, str], int]
) -> dict[str, RawBars]:
    """Return the bars of symbols on their days, ascending; ``keep`` is how many of a day are needed, if not all."""
    symbols = {symbol for _, here in plan for symbol in here}
    if len(symbols) <= FEW:
        return dict(lake.bars([day for day, _ in plan], symbols, key.centre)) if symbols else {}
    parts: dict[str, list[RawBars]] = {symbol: [] for symbol in symbols}
    for day, here in plan:
        chosen = set(here)
        some = here if 2 * len(here) < len(lake.counts(day)) else None
        for symbol, bars in lake.bars([day], some, key.centre):
            if symbol in chosen:
                parts[symbol].append(bars.since(-keep.get((day, symbol), 0)))
    return {symbol: RawBars.joined(bars) for symbol, bars in parts.items()}
