"""Instruments in PostgreSQL: the registered symbols and their trading calendars."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now
from surveillance_pipelines.stores.database import upsert_rows


@dataclass(frozen=True, slots=True)
class Instrument:
    """A registered symbol.

    Attributes:
        symbol: its spelling in messages and files.
        calendar: a name of ``exchange_calendars``, or ``24/7``.
        active: whether messages of the symbol are accepted.
        source: what registered it.
        calendar_basis: what the calendar is based on; ``default`` is an assumption, None is unknown.
    """

    symbol: str
    calendar: str
    active: bool
    source: str
    calendar_basis: str | None = None


def load_instruments(connection: psycopg.Connection[Any]) -> list[Instrument]:
    """Return all instruments, sorted by symbol."""
    rows = connection.execute(
        "SELECT symbol, calendar, active, source, calendar_basis FROM surveillance.instruments ORDER BY symbol"
    )
    return [Instrument(*row) for row in rows]


def newer_than_serving_runs(connection: psycopg.Connection[Any]) -> set[str]:
    """Return the symbols that were registered after a run that serves now had loaded the instruments."""
    rows = connection.execute(
        "SELECT symbol FROM surveillance.instruments WHERE added_at > (SELECT min(runs.recorded_at) "
        "FROM ops.leases JOIN ops.scoring_runs AS runs USING (run_id, queue_url) "
        "WHERE role = 'holder' AND expires_at > clock_timestamp() AND lane = 'live')"
    )
    return {symbol for (symbol,) in rows}


def register_instruments(
    connection: psycopg.Connection[Any],
    symbols: Iterable[str],
    calendar: str,
    source: str,
    clock: Clock = SYSTEM_CLOCK,
    *,
    basis: str | None = None,
    asset_class: str | None = None,
) -> int:
    """Register the symbols that do not exist yet, and return their number; existing ones keep their calendar."""
    added_at = now(clock)
    rows = [(symbol, calendar, added_at, source, basis, asset_class) for symbol in sorted(set(symbols))]
    columns = ("symbol", "calendar", "added_at", "source", "calendar_basis", "asset_class")
    return upsert_rows(connection, "surveillance.instruments", columns, rows, key=("symbol",))


def set_calendar(connection: psycopg.Connection[Any], symbols: Sequence[str], calendar: str) -> list[str]:
    """Set the calendar of registered symbols, as stated by a user, and return these symbols."""
    rows = connection.execute(
        "UPDATE surveillance.instruments SET calendar = %s, calendar_basis = 'stated' WHERE symbol = ANY(%s) "
        "RETURNING symbol",
        (calendar, list(symbols)),
    )
    return sorted(symbol for (symbol,) in rows)


def set_active(connection: psycopg.Connection[Any], symbols: Sequence[str], *, active: bool) -> list[str]:
    """Set whether messages of registered symbols are accepted, and return these symbols."""
    rows = connection.execute(
        "UPDATE surveillance.instruments SET active = %s WHERE symbol = ANY(%s) RETURNING symbol",
        (active, list(symbols)),
    )
    return sorted(symbol for (symbol,) in rows)


def remove_instruments(connection: psycopg.Connection[Any], symbols: Sequence[str]) -> list[str]:
    """Delete instruments, and return their symbols. Their bars and outputs stay."""
    rows = connection.execute(
        "DELETE FROM surveillance.instruments WHERE symbol = ANY(%s) RETURNING symbol", (list(symbols),)
    )
    return sorted(symbol for (symbol,) in rows)
