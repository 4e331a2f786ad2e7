"""Registration of instruments and of the trading sessions of their calendars."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.contracts.sessions import SessionTable

_BEFORE: Final = timedelta(days=10)
_AHEAD: Final = timedelta(days=60)
"""Future sessions; the live lane needs those of the coming weeks."""


def register(
    stores: Stores,
    symbols: Iterable[str],
    *,
    source: str,
    calendar: str | None = None,
    first: date | None = None,
    last: date | None = None,
) -> dict[str, list[str]]:
    """Register symbols, and the sessions of their calendars from before ``first`` to after ``last`` and today.

    Args:
        stores: settings and database.
        symbols: symbols; a registered one keeps its calendar.
        source: source recorded with each new symbol.
        calendar: calendar of all symbols; None derives it from the spelling of each, else DEFAULT_CALENDAR.
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
    with stores.connect() as connection:
        for name, names in by_calendar(wanted, calendar, stores.settings.default_calendar).items():
            register_instruments(connection, names, name, source, stores.clock)
        known = {row.symbol: row.calendar for row in load_instruments(connection)}
        today = stores.today()
        reach = (min(first or today, today) - _BEFORE, max(last or today, today) + _AHEAD)
        calendars = sorted({known[symbol] for symbol in wanted})
        save_sessions(connection, pl.concat([build_sessions(name, *reach) for name in calendars]))
    return {name: [symbol for symbol in wanted if known[symbol] == name] for name in calendars}


def register_watched(stores: Stores) -> list[str]:
    """Register the symbols of ``SYMBOLS``, and return all registered symbols, sorted."""
    from surveillance_pipelines.stores.instruments import load_instruments, register_instruments

    settings = stores.settings
    with stores.connect() as connection:
        for calendar, symbols in by_calendar(settings.symbols, None, settings.default_calendar).items():
            register_instruments(connection, symbols, calendar, "settings", stores.clock)
        return sorted(row.symbol for row in load_instruments(connection))


def by_calendar(symbols: Iterable[str], calendar: str | None, default: str) -> dict[str, list[str]]:
    """Return calendar → symbols. Without ``calendar``, the spelling of each symbol decides."""
    from surveillance_pipelines.market.calendars import guess_calendar

    found: dict[str, list[str]] = {}
    for symbol in symbols:
        found.setdefault(calendar or guess_calendar(symbol, default), []).append(symbol)
    return found


def sessions_of(bars: "pl.DataFrame", calendar: str | None, default: str) -> "SessionTable":
    """Return the sessions around the bars for the calendars of their symbols, without access to a store."""
    import polars as pl

    from surveillance_pipelines.contracts.sessions import SessionTable
    from surveillance_pipelines.market.calendars import build_sessions

    grouped = by_calendar(bars["symbol"].unique().sort(), calendar, default)
    first, last = span(bars["date"])
    rows = pl.concat([build_sessions(name, first - _BEFORE, last + _BEFORE) for name in grouped])
    calendar_of = {symbol: name for name, symbols in grouped.items() for symbol in symbols}
    return SessionTable.from_frame(rows, calendar=min(grouped), calendar_of=calendar_of)


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
    """Return symbol, name, asset class, calendar, currency, active, source and day of each instrument, by symbol."""
    with stores.connect() as connection:
        return connection.execute(
            "SELECT symbol, name, asset_class, calendar, currency, active, source, added_at::date "
            "FROM surveillance.instruments ORDER BY symbol"
        ).fetchall()


def span(days: "pl.Series") -> tuple[date, date]:
    """Return the first and the last date of a series with at least one date."""
    known = days.drop_nulls().unique().sort().to_list()
    return known[0], known[-1]
