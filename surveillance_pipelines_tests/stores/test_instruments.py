"""Instruments in a real PostgreSQL."""

from datetime import UTC, datetime
from typing import Any

import psycopg

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.stores.instruments import Instrument, load_instruments, register_instruments


def test_register_instruments_known_symbol_keeps_its_calendar_and_source(connection: psycopg.Connection[Any]) -> None:
    clock = ManualClock(datetime(2024, 1, 15, tzinfo=UTC))
    assert register_instruments(connection, ["MSFT", "AAPL", "AAPL"], "XNYS", "settings", clock) == 2
    assert register_instruments(connection, ["AAPL", "BTC-USD"], "24/7", "file", clock) == 1
    assert load_instruments(connection) == [
        Instrument("AAPL", "XNYS", active=True, source="settings"),
        Instrument("BTC-USD", "24/7", active=True, source="file"),
        Instrument("MSFT", "XNYS", active=True, source="settings"),
    ]
    row = connection.execute("SELECT DISTINCT added_at FROM surveillance.instruments").fetchall()
    assert row == [(datetime(2024, 1, 15, tzinfo=UTC),)]


def test_register_instruments_none_registers_nothing(connection: psycopg.Connection[Any]) -> None:
    assert register_instruments(connection, [], "XNYS", "settings") == 0
    assert load_instruments(connection) == []
