"""The peers' returns of the minutes of past days, computed once per day of ``bars_1m`` and kept.

A day's returns need each symbol's last close before it, so days are read in order, after the one before the first.
"""

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import chain, takewhile
from typing import Final

import numpy as np

from surveillance_pipelines.clock import utc_date
from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.features.market import MINUTE_US, log_returns
from surveillance_pipelines.features.peer_minutes import Floats, Integers, Minutes, minutes_of
from surveillance_pipelines.stores.lake_days import DayRows, Files, LakeDays


class PeerHistory:
    """Market returns of past minutes, for one last day, reach and centre.

    Args:
        day: the last day.
        reach: how many days before it a symbol's last close may lie.
        centre: mean or median.
    """

    def __init__(self, day: date, reach: int, centre: MarketCentre) -> None:
        self._day: Final = day
        self._reach: Final = reach
        self._centre: Final[MarketCentre] = centre
        self._files: list[tuple[date, Files]] = []  # of the days within reach when the minutes were computed
        self._minutes: Final[dict[date, Minutes]] = {}

    def values(
        self, lake: LakeDays, symbols: list[str], lengths: Integers, starts: Integers, own: Floats
    ) -> tuple[Floats, Integers]:
        """Return the market return, f8[n], and the number of peers, int64[n], of bars; NaN and 0 without peers.

        Args:
            lake: the days of the table.
            symbols: the symbols.
            lengths: int64[len(symbols)], number of bars of each.
            starts: int64[n] bar starts, ascending for each symbol.
            own: f8[n], the symbol's own return of the minute before the bar, NaN if it has none.
        """
        values, peers = np.full(len(starts), np.nan), np.zeros(len(starts), dtype=np.int64)
        minutes = starts - MINUTE_US
        dates = minutes // _DAY_US
        rows_of = np.repeat(np.arange(len(symbols)), lengths)
        for number in np.unique(dates).tolist() if self._prepare(lake, minutes) else []:
            known = self._minutes.get(_EPOCH + timedelta(days=number))
            if known is None:
                continue
            rows = np.flatnonzero(dates == number)
            counts = np.bincount(rows_of[rows], minlength=len(symbols))
            values[rows], peers[rows] = known.without(symbols, counts, minutes[rows], own[rows])
        return values, peers

    def _prepare(self, lake: LakeDays, minutes: Integers) -> bool:
        """Compute the days of minutes that are not known; return whether there are minutes."""
        if len(minutes) == 0:
            return False
        days = lake.within(self._day, self._reach)
        files = [(day, lake.files(day)) for day in days]
        same = takewhile(lambda pair: pair[0] == pair[1], zip(files, self._files, strict=False))
        unchanged = {day for (day, _), _ in same}
        for day in self._minutes.keys() - unchanged:
            del self._minutes[day]
        self._files = files
        first, last = utc_date(int(minutes.min())), utc_date(int(minutes.max()))
        wanted = [day for day in days if first <= day <= last and day not in self._minutes]
        for run in _consecutive(wanted, days):
            self._compute(lake, days, run)
        return True

    def _compute(self, lake: LakeDays, days: list[date], run: list[date]) -> None:
        """Compute the minutes of consecutive days."""
        older = days[: days.index(run[0])]
        carry: dict[str, float] = {}
        if older:
            carry = _last_closes(lake.closes(older[-1:]))
        for day in run:
            rows = lake.closes([day])
            missing = [name for name in rows.names if name not in carry]
            carry |= _older_closes(lake, older[:-1], missing)
            returns = _returns(rows, np.array([carry.get(name, np.nan) for name in rows.names]))
            self._minutes[day] = minutes_of(rows.names, rows.lengths, rows.starts, returns, self._centre)
            carry |= _last_closes(rows)


_DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1)


def _consecutive(wanted: list[date], days: list[date]) -> Iterable[list[date]]:
    """Return the wanted days in runs of days that follow one another in ``days``."""
    runs: list[list[date]] = []
    for day in wanted:
        if runs and days.index(day) == days.index(runs[-1][-1]) + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return runs


def _older_closes(lake: LakeDays, days: list[date], names: list[str]) -> dict[str, float]:
    """Return the last closes of symbols in days, of those that have bars there."""
    found = [name for name in names if any(name in lake.counts(day) for day in days)]
    return _last_closes(lake.closes(days, found)) if found else {}


def _last_closes(rows: DayRows) -> dict[str, float]:
    return dict(zip(rows.names, rows.values[0][rows.ends - 1].tolist(), strict=True))


def _returns(rows: DayRows, before: Floats) -> Floats:
    """Return the log returns of a day's bars, f8[n], the first of each symbol from its last close before the day."""
    closes = rows.values[0]
    count = len(rows.names)
    returns = log_returns(np.repeat(np.arange(count), rows.lengths), closes)
    firsts = rows.ends - rows.lengths
    pairs = np.array(list(chain.from_iterable(zip(before.tolist(), closes[firsts].tolist(), strict=True))))
    if count:
        returns[firsts] = log_returns(np.repeat(np.arange(count), 2), pairs)[1::2]
    return returns
