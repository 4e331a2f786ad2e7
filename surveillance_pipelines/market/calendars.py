"""Trading sessions from the exchange-calendars library, as rows. Only this module uses it, because it needs pandas."""

import warnings
from contextlib import suppress
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.clock import DAY_US, day_start_us
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.market.calendar_choice import ALWAYS_OPEN

_LONGEST_CLOSURE: Final = timedelta(days=30)
"""Margin around a range of dates, because the library refuses ranges without a session. None of its exchanges closes
for longer."""
_COVERED: Final = (date(2026, 3, 2), date(2026, 6, 30))
"""Days that all calendars of the library cover, to build one of each."""
_SHOWN: Final = 120


def build_sessions(calendar: str, first: date, last: date) -> pl.DataFrame:
    """Return the sessions of a calendar between two dates, both included, in the columns of ``SESSION_SCHEMA``.

    For some exchanges, the library covers only the days from or to a certain year; other days have no sessions.

    Raises:
        InvalidInputError: if the library has no such calendar.
    """
    if last < first:
        raise InvalidInputError(f"expected first ≤ last, got {first} and {last}")
    if calendar == ALWAYS_OPEN:
        days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
        return session_rows((calendar, day, day_start_us(day), day_start_us(day) + DAY_US) for day in days)
    exchange = _exchange(calendar, first, last)
    if exchange is None:
        return session_rows(())
    schedule = exchange.schedule.loc[str(first) : str(last)]
    opens, closes = (_microseconds(schedule[column]) for column in ("open", "close"))
    dates = [label.date() for label in schedule.index]
    return session_rows(zip([calendar] * len(dates), dates, opens, closes, strict=True))


def lunch_breaks(calendar: str, first: date, last: date) -> npt.NDArray[np.int64]:
    """Return the lunch breaks of a calendar's sessions between two dates, both included.

    Returns:
        int64[n, 2]: begin and end, microseconds since the epoch, UTC; empty for a calendar without breaks.

    Raises:
        InvalidInputError: if the library has no such calendar.
    """
    exchange = None if calendar == ALWAYS_OPEN else _exchange(calendar, first, last)
    if exchange is None:
        return np.empty((0, 2), np.int64)
    schedule = exchange.schedule.loc[str(first) : str(last)].dropna(subset=["break_start", "break_end"])
    edges = [_microseconds(schedule[column]) for column in ("break_start", "break_end")]
    return np.array(edges, dtype=np.int64).reshape(2, -1).T


def canonical_calendar(name: str) -> str:
    """Return the calendar that a name stands for, such as XNYS for NYSE and NASDAQ; an unknown name is unchanged."""
    import exchange_calendars

    known = name in exchange_calendars.get_calendar_names(include_aliases=True)
    return exchange_calendars.resolve_alias(name) if known else name


def calendar_begins(calendar: str) -> date | None:
    """Return the first day that the library covers; None if it sets no limit.

    Raises:
        InvalidInputError: if the library cannot build the calendar.
    """
    if calendar == ALWAYS_OPEN:
        return None
    limit = _built(calendar, *_COVERED).bound_min()
    return None if limit is None else limit.date()


def _exchange(calendar: str, first: date, last: date) -> Any | None:
    """Return a calendar for the part of a range that the library covers; None if it covers no part."""
    import exchange_calendars

    names = exchange_calendars.get_calendar_names(include_aliases=True)
    if calendar not in names:
        raise InvalidInputError(f"expected a calendar such as XNYS, XHKG or {ALWAYS_OPEN}, got {calendar!r}")
    start, end = first - _LONGEST_CLOSURE, last + _LONGEST_CLOSURE
    with suppress(InvalidInputError):
        return _built(calendar, start, end)
    begins = calendar_begins(calendar)
    if begins is not None and last < begins:
        return None
    start = max(start, begins or start)
    with suppress(InvalidInputError):
        return _built(calendar, start, end)
    recorded = _built(calendar, start, None)  # up to the last date that the library covers
    return None if recorded.last_session.date() < first else recorded


def _built(calendar: str, start: date, end: date | None) -> Any:
    import exchange_calendars
    import pandas as pd

    with warnings.catch_warnings():
        # The library uses pandas calls that pandas 4 will remove, and slow ones for the orthodox Easter.
        warnings.simplefilter("ignore", pd.errors.PandasDeprecationWarning)
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        try:
            return exchange_calendars.get_calendar(calendar, start=str(start), end=None if end is None else str(end))
        except (ValueError, NotImplementedError) as error:
            raise InvalidInputError(
                f"expected a calendar that exchange_calendars can build from {start} on, {calendar} cannot be: "
                f"{str(error)[:_SHOWN]}",
                remedy="state another calendar with --calendar",
            ) from error


def _microseconds(instants: Any) -> list[int]:
    return instants.dt.tz_convert(None).to_numpy().astype("datetime64[us]").astype("int64").tolist()
