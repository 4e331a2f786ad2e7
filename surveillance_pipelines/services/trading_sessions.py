"""Trading sessions of all calendars in use."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.market import FIRST_DAY
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

_AHEAD: Final = timedelta(days=200)
"""Exchanges publish their holidays about a year ahead; the calendar library is certain of this period."""
_ENOUGH: Final = _AHEAD - timedelta(days=30)


@dataclass(frozen=True, slots=True)
class SavedSessions:
    """Result of one update.

    Attributes:
        rows: number of sessions built.
        reach: calendar in use → date of its last stored session.
        problems: calendar → reason why it is missing or ends too early.
    """

    rows: int
    reach: dict[str, date]
    problems: dict[str, str]


def save_known_sessions(stores: Stores) -> SavedSessions:
    """Store the sessions of every calendar that an instrument uses, and of the default calendar.

    A calendar that is unknown or does not reach far enough ahead is a problem; the other calendars are stored.
    """
    from surveillance_pipelines.stores.instruments import load_instruments
    from surveillance_pipelines.stores.sessions import last_sessions, save_sessions

    today = stores.today()
    with stores.connect() as connection:
        used = {row.calendar for row in load_instruments(connection)} | {stores.settings.default_calendar}
        rows, problems = _build(sorted(used), today + _AHEAD)
        save_sessions(connection, rows)
        reach = {name: last for name, last in last_sessions(connection).items() if name in used}
    problems |= {
        name: f"calendar {name} ends on {last}: a newer release of exchange_calendars may reach further"
        for name, last in sorted(reach.items())
        if last < today + _ENOUGH
    }
    return SavedSessions(rows.height, reach, problems)


def _build(calendars: list[str], last: date) -> "tuple[pl.DataFrame, dict[str, str]]":
    """Return the sessions of the calendars up to a date, and calendar → problem."""
    import polars as pl

    from surveillance_pipelines.contracts.frames import SESSION_SCHEMA
    from surveillance_pipelines.market.calendars import build_sessions

    built, problems = [SESSION_SCHEMA.to_frame()], dict[str, str]()
    for calendar in calendars:
        try:
            built.append(build_sessions(calendar, FIRST_DAY, last))
        except ValueError as error:
            problems[calendar] = str(error)
    return pl.concat(built), problems
