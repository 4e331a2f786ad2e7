"""Registration of instruments and of the trading sessions of their calendars."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.contracts.errors import InvalidInputError, NotFoundError
from surveillance_pipelines.contracts.market import LANDED_TABLE
from surveillance_pipelines.services.homes import is_untouched
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl
    import psycopg

    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.market.calendar_choice import CalendarChoice

_BEFORE: Final = timedelta(days=10)
_AHEAD: Final = timedelta(days=60)
"""Future sessions; the live lane needs those of the coming weeks."""
_SHOWN: Final = 10
"""Maximum number of symbols in a message."""


def register(
    stores: Stores,
    symbols: Iterable[str],
    *,
    source: str,
    calendar: str | None = None,
    first: date | None = None,
    last: date | None = None,
) -> "dict[str, CalendarChoice]":
    """Register symbols, and the sessions of their calendars from before ``first`` to after ``last`` and today.

    Args:
        stores: settings and database.
        symbols: symbols; a registered one keeps its calendar.
        source: source recorded with each new symbol.
        calendar: calendar of all symbols; None derives it from the spelling of each, else DEFAULT_CALENDAR.
        first: earliest day of their bars.
        last: latest day of their bars.

    Returns:
        Symbol → its calendar, with the basis of the choice.

    Raises:
        InvalidInputError: if there is no such calendar.
    """
    import polars as pl

    from surveillance_pipelines.market.calendar_choice import choose_calendar, recorded_choice
    from surveillance_pipelines.market.calendars import build_sessions, canonical_calendar
    from surveillance_pipelines.stores.instruments import load_instruments
    from surveillance_pipelines.stores.sessions import save_sessions

    wanted, stated = sorted(set(symbols)), None if calendar is None else canonical_calendar(calendar)
    with stores.connect() as connection:
        known = {row.symbol: row for row in load_instruments(connection)}
        chosen = {
            symbol: choose_calendar(symbol, stated=stated, default=stores.settings.default_calendar)
            for symbol in wanted
            if symbol not in known
        }
        today = stores.today()
        reach = (min(first or today, today) - _BEFORE, max(last or today, today) + _AHEAD)
        calendars = {known[symbol].calendar if symbol in known else chosen[symbol].calendar for symbol in wanted}
        save_sessions(connection, pl.concat([build_sessions(name, *reach) for name in sorted(calendars)]))
        _register(connection, chosen, source, stores)
    recorded = {symbol: recorded_choice(row.calendar, row.calendar_basis) for symbol, row in known.items()}
    return {symbol: recorded.get(symbol) or chosen[symbol] for symbol in wanted}


def _register(
    connection: "psycopg.Connection[Any]", chosen: "Mapping[str, CalendarChoice]", source: str, stores: Stores
) -> None:
    from surveillance_pipelines.stores.instruments import register_instruments

    for choice in sorted(set(chosen.values()), key=lambda choice: choice.sentence):
        names = [symbol for symbol, of in chosen.items() if of == choice]
        register_instruments(
            connection, names, choice.calendar, source, stores.clock, basis=choice.basis,
            asset_class=choice.asset_class,
        )  # fmt: skip


def register_watched(stores: Stores) -> list[str]:
    """Register the symbols of ``SYMBOLS``, and return all registered symbols, sorted."""
    from surveillance_pipelines.market.calendar_choice import choose_calendar
    from surveillance_pipelines.stores.instruments import load_instruments

    settings = stores.settings
    chosen = {symbol: choose_calendar(symbol, default=settings.default_calendar) for symbol in settings.symbols}
    with stores.connect() as connection:
        _register(connection, chosen, "settings", stores)
        return sorted(row.symbol for row in load_instruments(connection))


def require_registered(stores: Stores, symbols: Iterable[str]) -> None:
    """Check that all symbols are accepted from the queue, if ``UNKNOWN_SYMBOLS`` is ``refuse``.

    Raises:
        NotFoundError: if some are not registered, or not active.
    """
    from surveillance_pipelines.stores.instruments import load_instruments

    settings = stores.settings
    if settings.unknown_symbols == "register":
        return
    with stores.connect() as connection:
        known = {row.symbol: row.active for row in load_instruments(connection)}
    refused = sorted(symbol for symbol in set(symbols) - set(settings.symbols) if not known.get(symbol, False))
    if refused:
        names = " ".join(refused[:_SHOWN])
        raise NotFoundError(
            f"expected registered instruments, because UNKNOWN_SYMBOLS=refuse, got {names}",
            remedy=f"register them with `surveillance instruments add {names}`, or set UNKNOWN_SYMBOLS=register",
        )


def change_calendar(stores: Stores, symbols: Sequence[str], calendar: str) -> str:
    """Set the calendar of registered symbols, and record its sessions for the days of their bars.

    Returns:
        The calendar's name in ``exchange_calendars``: XNYS for NYSE.

    Raises:
        InvalidInputError: if there is no such calendar.
        NotFoundError: if a symbol is not registered; nothing is changed.
    """
    from surveillance_pipelines.market.calendars import build_sessions, canonical_calendar
    from surveillance_pipelines.stores.instruments import set_calendar
    from surveillance_pipelines.stores.sessions import save_sessions

    today = stores.today()
    days = stores.lake.days(LANDED_TABLE) or [today]
    name = canonical_calendar(calendar)
    sessions = build_sessions(name, min(days[0], today) - _BEFORE, today + _AHEAD)
    with stores.connect() as connection:
        save_sessions(connection, sessions)
        _require_all(symbols, set_calendar(connection, symbols, name))
    return name


def change_activity(stores: Stores, symbols: Sequence[str], *, active: bool) -> None:
    """Set whether messages of registered symbols are accepted; a running drain run applies it when it starts again.

    Raises:
        NotFoundError: if a symbol is not registered; nothing is changed.
    """
    from surveillance_pipelines.stores.instruments import set_active

    with stores.connect() as connection:
        _require_all(symbols, set_active(connection, symbols, active=active))


def remove(stores: Stores, symbols: Sequence[str]) -> None:
    """Delete instruments; their bars and outputs stay.

    Raises:
        NotFoundError: if a symbol is not registered; nothing is changed.
    """
    from surveillance_pipelines.stores.instruments import remove_instruments

    with stores.connect() as connection:
        _require_all(symbols, remove_instruments(connection, symbols))


def _require_all(wanted: Iterable[str], found: Iterable[str]) -> None:
    """Raise within the transaction, which is rolled back."""
    if unknown := sorted(set(wanted) - set(found)):
        raise NotFoundError(
            f"expected registered instruments, got {', '.join(unknown)}",
            remedy="`surveillance instruments list` shows them",
        )


def recorded_calendars(stores: Stores) -> "dict[str, CalendarChoice]":
    """Return each registered symbol with its calendar; empty, without access to a service, for an untouched home."""
    from surveillance_pipelines.market.calendar_choice import recorded_choice
    from surveillance_pipelines.stores.instruments import load_instruments

    if is_untouched(stores.settings):
        return {}
    with stores.connect() as connection:
        return {row.symbol: recorded_choice(row.calendar, row.calendar_basis) for row in load_instruments(connection)}


def calendars_of(stores: Stores, symbols: Iterable[str], stated: str | None) -> "dict[str, CalendarChoice]":
    """Return the calendars with which bars are scored, and their basis.

    Args:
        stores: settings and database.
        symbols: symbols of the bars.
        stated: calendar of all symbols; None takes that of the registered instrument, else derives it from the
            spelling, else uses DEFAULT_CALENDAR.
    """
    from surveillance_pipelines.market.calendar_choice import choose_calendar
    from surveillance_pipelines.market.calendars import canonical_calendar

    recorded, stated = (recorded_calendars(stores), None) if stated is None else ({}, canonical_calendar(stated))
    default = stores.settings.default_calendar
    return {
        symbol: recorded.get(symbol) or choose_calendar(symbol, stated=stated, default=default)
        for symbol in sorted(set(symbols))
    }


def sessions_of(bars: "pl.DataFrame", calendars: "Mapping[str, CalendarChoice]") -> "SessionTable":
    """Return the sessions around the bars for the calendars of their symbols, without access to a store."""
    import polars as pl

    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.market.calendars import build_sessions

    calendar_of = {symbol: calendars[symbol].calendar for symbol in bars["symbol"].unique().sort()}
    first, last = span(bars["date"])
    used = sorted(set(calendar_of.values()))
    rows = pl.concat([build_sessions(name, first - _BEFORE, last + _BEFORE) for name in used])
    return SessionTable.from_frame(rows, calendar=used[0], calendar_of=calendar_of)


def require_symbols(texts: Iterable[str]) -> tuple[str, ...]:
    """Return symbols in upper case and stripped, without empty ones.

    Raises:
        InvalidInputError: if a text is not a valid symbol.
    """
    from surveillance_pipelines.symbols import SYMBOL_RULE, is_symbol

    symbols = tuple(text.strip().upper() for text in texts if text.strip())
    if wrong := [symbol for symbol in symbols if not is_symbol(symbol)]:
        raise InvalidInputError(f"expected {SYMBOL_RULE} as each symbol, got {', '.join(wrong)}")
    return symbols


def list_instruments(stores: Stores) -> list[tuple[Any, ...]]:
    """Return symbol, name, asset class, calendar and its basis, currency, active, source and day, by symbol."""
    with stores.connect() as connection:
        return connection.execute(
            "SELECT symbol, name, asset_class, calendar, calendar_basis, currency, active, source, added_at::date "
            "FROM surveillance.instruments ORDER BY symbol"
        ).fetchall()


def span(days: "pl.Series") -> tuple[date, date]:
    """Return the first and the last date of a series with at least one date."""
    known = days.drop_nulls().unique().sort().to_list()
    return known[0], known[-1]
