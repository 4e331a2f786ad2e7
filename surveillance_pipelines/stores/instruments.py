"""Instruments in PostgreSQL: the registered symbols and their trading calendars."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now
from surveillance_pipelines.stores.database import upsert_rows


@dataclass(frozen=True, slots=True)
class Instrument:
    """A registered symbol. ``calendar`` is a name of ``exchange_calendars``, or ``24/7``."""

    symbol: str
    calendar: str
    active: bool
    source: str


def load_instruments(connection: psycopg.Connection[Any]) -> list[Instrument]:
    """Return all instruments, sorted by symbol."""
    rows = connection.execute("SELECT symbol, calendar, active, source FROM surveillance.instruments ORDER BY symbol")
    return [Instrument(*row) for row in rows]


def register_instruments(
    connection: psycopg.Connection[Any],
    symbols: Iterable[str],
    calendar: str,
    source: str,
    clock: Clock = SYSTEM_CLOCK,
) -> int:
    """Register the symbols that do not exist yet, and return their number; existing ones keep their calendar."""
    added_at = now(clock)
    rows = [(symbol, calendar, added_at, source) for symbol in sorted(set(symbols))]
    columns = ("symbol", "calendar", "added_at", "source")
    return upsert_rows(connection, "surveillance.instruments", columns, rows, key=("symbol",))
