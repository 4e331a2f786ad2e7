"""The bars of a symbol by session and minute, and runs of minutes without one."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.clock import DAY_US, MICROSECONDS, day_start_us
from surveillance_pipelines.contracts.sessions import SessionTable

_MINUTE_US: Final = 60 * MICROSECONDS
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """The minutes of a session that can have a bar.

    Attributes:
        row: row of the session table.
        session_date: date of the session.
        opens_at: microseconds since the epoch.
        minutes: int64[n], minutes since the opening, ascending, without those of a lunch break and of the future.
    """

    row: int
    session_date: date
    opens_at: int
    minutes: npt.NDArray[np.int64]

    @property
    def length(self) -> int:
        return len(self.minutes)


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """Whether each minute of a slot has a bar: bool[n]."""

    slot: Slot
    has_bar: Flags


@dataclass(frozen=True, slots=True)
class SessionPrices:
    """First and last price of a session."""

    open: float
    close: float


class SessionBars:
    """The 1-minute bars of revision 0 of one symbol within sessions, ascending.

    Args:
        starts: int64[n], microseconds since the epoch.
        columns: open, high, low, close, volume → float64[n]; a missing volume is 0.
        table: sessions of the symbol's calendar.
    """

    def __init__(self, starts: npt.NDArray[np.int64], columns: Mapping[str, npt.NDArray[np.float64]],
                 table: SessionTable) -> None:  # fmt: skip
        rows = table.rows_of(starts)
        inside = (starts >= table.opens_at[rows]) & (starts < table.closes_at[rows])
        self._minutes = (starts - table.opens_at[rows])[inside] // _MINUTE_US
        self._rows = rows[inside]
        self._columns = {name: values[inside] for name, values in columns.items()}
        self.first_row = int(self._rows[0]) if len(self._rows) else -1

    def presence(self, slot: Slot) -> Presence:
        """Return which minutes of a session have a bar."""
        return Presence(slot, np.isin(slot.minutes, self._minutes[self._of(slot)]))

    def prices(self, slot: Slot) -> SessionPrices:
        """Return the first and the last price of a session with bars."""
        part = self._of(slot)
        return SessionPrices(float(self._columns["open"][part][0]), float(self._columns["close"][part][-1]))

    def turnover(self, slot: Slot, bars: int) -> float:
        """Return the sum of price times volume of the first bars of a session."""
        part = self._of(slot)
        return float(np.sum((self._columns["close"][part] * self._columns["volume"][part])[:bars]))

    def close_at(self, slot: Slot, place: int) -> float:
        """Return the close of the bar of the ``place``-th minute of a slot."""
        part = self._of(slot)
        return float(self._columns["close"][part][np.searchsorted(self._minutes[part], slot.minutes[place])])

    def standing_still(self, slot: Slot) -> Flags:
        """Return which minutes of a session have a bar without volume that repeats the price of the bar before."""
        part = self._of(slot)
        open_, high, low, close, volume = (self._columns[name][part] for name in _COLUMNS)
        flat = (high == low) & (open_ == close) & (volume == 0.0)
        flat[1:] &= close[1:] == close[:-1]
        flat[:1] = False
        return np.isin(slot.minutes, self._minutes[part][flat])

    def _of(self, slot: Slot) -> slice:
        return slice(*np.searchsorted(self._rows, [slot.row, slot.row + 1]))


_COLUMNS: Final = ("open", "high", "low", "close", "volume")


def bars_by_session(bars_1m: pl.DataFrame, sessions: SessionTable) -> dict[str, SessionBars]:
    """Return the bars of each symbol that has bars within sessions, by symbol.

    Args:
        bars_1m: ``BAR_SCHEMA``; other revisions than 0 are ignored.
        sessions: with the calendar of each symbol.
    """
    kept = bars_1m.filter((pl.col("revision") == 0) & (pl.col("timeframe") == "1m"))
    unique = kept.unique(["symbol", "bar_start"], keep="first").sort("symbol", "bar_start")
    found: dict[str, SessionBars] = {}
    for (name,), part in unique.partition_by("symbol", as_dict=True, maintain_order=True).items():
        columns = {column: part[column].fill_null(0.0).to_numpy() for column in _COLUMNS}
        starts = part["bar_start"].dt.timestamp("us").to_numpy()
        bars = SessionBars(starts, columns, sessions.for_symbol(str(name)))
        if bars.first_row >= 0:
            found[str(name)] = bars
    return found


def slots(table: SessionTable, now: int, breaks: npt.NDArray[np.int64] | None = None) -> list[Slot]:
    """Return the sessions that have begun, with the minutes in which trading is possible and that have ended.

    Args:
        table: sessions of one calendar.
        now: microseconds since the epoch.
        breaks: int64[n, 2], lunch breaks in microseconds since the epoch.
    """
    found: list[Slot] = []
    rows = zip(table.session_ids.tolist(), table.opens_at.tolist(), table.closes_at.tolist(), strict=True)
    for row, (session_id, opens, closes) in enumerate(rows):
        if opens >= now:
            break
        minutes = np.arange((min(closes, now) - opens) // _MINUTE_US)
        for begin, end in () if breaks is None else breaks[(breaks[:, 0] >= opens) & (breaks[:, 1] <= closes)]:
            minutes = minutes[(minutes < (begin - opens) // _MINUTE_US) | (minutes >= (end - opens) // _MINUTE_US)]
        found.append(Slot(row, date.fromordinal(session_id), opens, minutes))
    return found


def runs(flags: Flags) -> list[npt.NDArray[np.int64]]:
    """Return the places of each run of true values."""
    places = np.flatnonzero(flags)
    return np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else []


def longest(flags: Flags) -> int:
    """Return the length of the longest run of true values."""
    return max((len(run) for run in runs(flags)), default=0)


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """Which minutes of a session have a bar, per symbol.

    Attributes:
        calendar: trading calendar of the symbols.
        slot: the session.
        has_bar: symbol → bool[n], for the minutes of the slot.
    """

    calendar: str
    slot: Slot
    has_bar: Mapping[str, Flags]


def newest_coverage(
    bars_1m: pl.DataFrame,
    sessions: SessionTable,
    *,
    first: date,
    last: date,
    now: int,
    breaks: Mapping[str, npt.NDArray[np.int64]],
) -> Coverage | None:
    """Return the newest session with bars that opens in a range of days, of the calendar with most symbols.

    Args:
        bars_1m: ``BAR_SCHEMA``.
        sessions: with the calendar of each symbol.
        first: UTC date, included.
        last: UTC date, included.
        now: later minutes are left out.
        breaks: calendar → lunch breaks, as in ``slots``.
    """
    by_symbol = bars_by_session(bars_1m, sessions)
    calendars = {symbol: sessions.for_symbol(symbol).calendar for symbol in by_symbol}
    counts = Counter(calendars.values())
    for calendar in sorted(counts, key=lambda name: (-counts[name], name)):
        members = {symbol: bars for symbol, bars in by_symbol.items() if calendars[symbol] == calendar}
        table = sessions.for_symbol(next(iter(members)))
        for slot in reversed(slots(table, min(now, day_start_us(last) + DAY_US), breaks.get(calendar))):
            if slot.opens_at < day_start_us(first):
                break
            has_bar = {symbol: bars.presence(slot).has_bar for symbol, bars in members.items()}
            if any(flags.any() for flags in has_bar.values()):
                return Coverage(calendar, slot, has_bar)
    return None
