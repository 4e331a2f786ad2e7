"""Data incidents of a range of days, from the bars of the lake."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.clock import DAY_US, MICROSECONDS, day_start_us
from surveillance_pipelines.services.homes import is_untouched
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.market.data_incidents import DataIncident
    from surveillance_pipelines.market.session_bars import Coverage
    from surveillance_pipelines.stores.data_incidents import DataIncidentRow

HISTORY: Final = timedelta(days=20)
"""Days before that contain enough sessions to know what is usual, also around long holidays."""
DAYS_AT_ONCE: Final = 10
"""Days whose bars, with their history, are in memory at a time."""
GRACE_US: Final = 2 * 60 * MICROSECONDS
"""Minutes younger than this are not judged: their bars may not have closed."""
_TABLE: Final = "bars_1m"
_COLUMNS: Final = ["symbol", "timeframe", "bar_start", "revision", "open", "high", "low", "close", "volume"]


@dataclass(frozen=True, slots=True)
class FoundDataIncidents:
    """Result of one computation.

    Attributes:
        incidents: the incidents of the range, by first minute.
        new: number of them that were not stored before.
        resolved: number of earlier incidents of the range that are no longer found, because bars arrived.
        coverage: the newest session of the range; None without bars.
    """

    incidents: "tuple[DataIncident, ...]"
    new: int
    resolved: int
    coverage: "Coverage | None"


def update_data_incidents(stores: Stores, first: date, last: date) -> FoundDataIncidents:
    """Find the data incidents of the sessions that open in a range of UTC days, and store those that are new.

    A computation of the same bars changes nothing. Incidents that are no longer found are kept and marked as resolved.
    """
    from surveillance_pipelines.market.data_incidents import find_data_incidents
    from surveillance_pipelines.market.session_bars import newest_coverage
    from surveillance_pipelines.stores.data_incidents import resolve_others, save_data_incidents

    now = stores.clock.now_us()
    found: list[DataIncident] = []
    coverage: Coverage | None = None
    for begin, end in _parts(first, last):
        bars, sessions, breaks = _market(stores, begin, end)
        judged_to = now - GRACE_US
        found += find_data_incidents(bars, sessions, first=begin, last=end, now=judged_to, breaks=breaks)
        coverage = newest_coverage(bars, sessions, first=begin, last=end, now=judged_to, breaks=breaks) or coverage
    with stores.connect() as connection:
        new = save_data_incidents(connection, found, found_by="bars", at=now)
        resolved = resolve_others(
            connection, {one.id for one in found}, since=day_start_us(first), until=day_start_us(last) + DAY_US, at=now
        )
    return FoundDataIncidents(tuple(found), new, resolved, coverage)


def list_data_incidents(
    stores: Stores, *, symbols: tuple[str, ...], since: date | None, until: date | None, limit: int
) -> "list[DataIncidentRow]":
    """Return the newest data incidents of some symbols and UTC days; nothing selects all."""
    from surveillance_pipelines.stores.data_incidents import newest_data_incidents

    if is_untouched(stores.settings):  # do not start a database to find it empty
        return []
    with stores.connect() as connection:
        return newest_data_incidents(connection, symbols=symbols, since=since, until=until, limit=limit)


def _parts(first: date, last: date) -> Iterator[tuple[date, date]]:
    begin = first
    while begin <= last:
        yield begin, min(last, begin + timedelta(days=DAYS_AT_ONCE - 1))
        begin += timedelta(days=DAYS_AT_ONCE)


def _market(stores: Stores, first: date, last: date) -> "tuple[pl.DataFrame, SessionTable, dict[str, np.ndarray]]":
    """Return the bars of a range with its history, the sessions, and the lunch breaks of the calendars in use."""
    # A session may end on the next UTC day.
    days = first - HISTORY, last + timedelta(days=1)
    sessions = stores.session_table(*days)
    bars, breaks = bars_and_breaks(stores, sessions, *days)
    return bars, sessions, breaks


def bars_and_breaks(
    stores: Stores, sessions: "SessionTable", first: date, last: date, *, symbols: Collection[str] | None = None
) -> "tuple[pl.DataFrame, dict[str, np.ndarray]]":
    """Return the 1-minute bars of a range of days, and the lunch breaks of the calendars of their symbols."""
    import polars as pl

    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.market.calendars import lunch_breaks

    schema = pl.Schema({name: BAR_SCHEMA[name] for name in _COLUMNS})
    lake, days = stores.lake, (first, last)
    stored = (
        lake.read(_TABLE, days=days, symbols=symbols, columns=_COLUMNS) if lake.exists(_TABLE) else schema.to_frame()
    )
    used = {sessions.for_symbol(symbol).calendar for symbol in {*stored["symbol"].unique(), *(symbols or ())}}
    return stored, {calendar: lunch_breaks(calendar, *days) for calendar in sorted(used)}
