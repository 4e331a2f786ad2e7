"""Instruments and trading sessions registered by a command, so that a symbol finds its calendar."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

from surveillance_pipelines.clock import now
from surveillance_pipelines.services.platform import Platform

_BEFORE: Final = timedelta(days=10)
_AHEAD: Final = timedelta(days=60)
"""Past today: the live lane needs the sessions of the coming weeks."""


def register(
    platform: Platform,
    symbols: Iterable[str],
    *,
    source: str,
    calendar: str | None = None,
    first: date | None = None,
    last: date | None = None,
) -> dict[str, list[str]]:
    """Register symbols, and the sessions of their calendars from before ``first`` to after ``last`` and today.

    Args:
        platform: whose database.
        symbols: to register; one that is known keeps its calendar.
        source: who says so.
        calendar: of all of them; None to go by their spelling, else DEFAULT_CALENDAR.
        first: earliest day of their bars.
        last: latest day of their bars.

    Returns:
        Calendar → symbols.
    """
    import polars as pl

    from surveillance_pipelines.market.calendars import build_sessions
    from surveillance_pipelines.stores.instruments import load_instruments, register_instruments
    from surveillance_pipelines.stores.sessions import save_sessions

    wanted = sorted(set(symbols))
    with platform.connect() as connection:
        for name, names in by_calendar(wanted, calendar, platform.settings.default_calendar).items():
            register_instruments(connection, names, name, source)
        known = {row.symbol: row.calendar for row in load_instruments(connection)}
        today = now(platform.clock).date()
        reach = (min(first or today, today) - _BEFORE, max(last or today, today) + _AHEAD)
        calendars = sorted({known[symbol] for symbol in wanted})
        save_sessions(connection, pl.concat([build_sessions(name, *reach) for name in calendars]))
    return {name: [symbol for symbol in wanted if known[symbol] == name] for name in calendars}


def by_calendar(symbols: Iterable[str], calendar: str | None, default: str) -> dict[str, list[str]]:
    """Return calendar → symbols: all on ``calendar`` where it is given, else by their spelling."""
    from surveillance_pipelines.market.calendars import guess_calendar

    found: dict[str, list[str]] = {}
    for symbol in symbols:
        found.setdefault(calendar or guess_calendar(symbol, default), []).append(symbol)
    return found
