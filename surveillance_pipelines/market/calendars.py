"""Trading sessions from the exchange-calendars library, as rows. Only this module uses it, because it needs pandas."""

import warnings
from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from surveillance_pipelines.clock import DAY_US, day_start_us
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.frames import session_rows

ALWAYS_OPEN: Final = "24/7"
"""Calendar of crypto pairs: each UTC day is a session."""

_LONGEST_CLOSURE: Final = timedelta(days=30)
"""Margin around a range of dates, because the library refuses ranges without a session. None of its exchanges closes
for longer."""

_CRYPTO_QUOTES: Final = ("USDT", "BUSD", "USDC")
_SUFFIX_CALENDARS: Final = {
    ".HK": "XHKG", ".L": "XLON", ".T": "XTKS", ".DE": "XETR", ".PA": "XPAR", ".TO": "XTSE", ".AX": "XASX",
    ".OL": "XOSL", ".SW": "XSWX", ".AS": "XAMS", ".MI": "XMIL", ".KS": "XKRX", ".SI": "XSES",
}  # fmt: skip


def build_sessions(calendar: str, first: date, last: date) -> pl.DataFrame:
    """Return the sessions of a calendar between two dates, both included, in the columns of ``SESSION_SCHEMA``.

    For some exchanges, the library records holidays only up to a certain year; their sessions end there.

    Raises:
        InvalidInputError: if the library has no such calendar, or not for these dates.
    """
    if last < first:
        raise InvalidInputError(f"expected first ≤ last, got {first} and {last}")
    if calendar == ALWAYS_OPEN:
        days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
        return session_rows((calendar, day, day_start_us(day), day_start_us(day) + DAY_US) for day in days)
    schedule = _exchange(calendar, first, last).schedule.loc[str(first) : str(last)]
    opens, closes = (_microseconds(schedule[column]) for column in ("open", "close"))
    dates = [label.date() for label in schedule.index]
    return session_rows(zip([calendar] * len(dates), dates, opens, closes, strict=True))


def guess_calendar(symbol: str, default: str) -> str:
    """Return the calendar implied by a symbol: ``24/7`` for crypto pairs, else by its Yahoo suffix, else default."""
    is_pair = "/" in symbol or symbol.endswith((*_CRYPTO_QUOTES, "-USD", "-PERP"))
    if is_pair or symbol in {"BTCUSD", "ETHUSD"}:
        return ALWAYS_OPEN
    _, dot, suffix = symbol.rpartition(".")
    return _SUFFIX_CALENDARS.get(f"{dot}{suffix}", default)


def _exchange(calendar: str, first: date, last: date) -> Any:
    import exchange_calendars
    import pandas as pd

    names = exchange_calendars.get_calendar_names(include_aliases=True)
    if calendar not in names:
        raise InvalidInputError(f"expected a calendar such as XNYS, XHKG or {ALWAYS_OPEN}, got {calendar!r}")
    start, end = str(first - _LONGEST_CLOSURE), str(last + _LONGEST_CLOSURE)
    with warnings.catch_warnings():
        # The library uses pandas calls that pandas 4 will remove.
        warnings.simplefilter("ignore", pd.errors.PandasDeprecationWarning)
        try:
            return exchange_calendars.get_calendar(calendar, start=start, end=end)
        except ValueError as error:
            recorded = _as_far_as_recorded(calendar, start)
            if recorded is None or recorded.last_session.date() < first:
                raise InvalidInputError(
                    f"expected dates that {calendar} covers, got {first} to {last}: {error}"
                ) from error
            return recorded


def _as_far_as_recorded(calendar: str, start: str) -> Any | None:
    """Return a calendar from a date to the last date that the library covers; None if the start is not covered."""
    import exchange_calendars

    try:
        return exchange_calendars.get_calendar(calendar, start=start)
    except ValueError:
        return None


def _microseconds(instants: Any) -> list[int]:
    return instants.dt.tz_convert(None).to_numpy().astype("datetime64[us]").astype("int64").tolist()
