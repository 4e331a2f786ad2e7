"""Trading sessions in a real PostgreSQL."""

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import psycopg
import pytest

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.stores.sessions import load_sessions, save_sessions


def hours(day: int, opens: int = 14, closes: int = 21) -> tuple[date, int, int]:
    def at(hour: int) -> int:
        return to_us(datetime(2024, 1, day, hour, tzinfo=UTC))

    return date(2024, 1, day), at(opens), at(closes)


def sessions(calendar: str, *rows: tuple[date, int, int]) -> pl.DataFrame:
    return session_rows([(calendar, *row) for row in rows])


def dates(table: SessionTable) -> list[date]:
    return [date.fromordinal(number) for number in table.session_ids.tolist()]


def test_load_sessions_gives_back_what_was_saved_of_the_range(connection: psycopg.Connection[Any]) -> None:
    save_sessions(connection, sessions("XNYS", hours(16), hours(15), hours(17), hours(18)))
    table = load_sessions(connection, ["XNYS"], date(2024, 1, 16), date(2024, 1, 17))
    assert dates(table) == [date(2024, 1, 16), date(2024, 1, 17)]
    assert table.opens_at.tolist() == [hours(16)[1], hours(17)[1]]
    assert table.closes_at.tolist() == [hours(16)[2], hours(17)[2]]


def test_save_sessions_moved_hours_replace_the_old_ones(connection: psycopg.Connection[Any]) -> None:
    save_sessions(connection, sessions("XNYS", hours(15), hours(16)))
    save_sessions(connection, sessions("XNYS", hours(15, closes=18), hours(16)))
    table = load_sessions(connection, ["XNYS"], date(2024, 1, 15), date(2024, 1, 16))
    assert table.closes_at.tolist() == [hours(15, closes=18)[2], hours(16)[2]]


def test_load_sessions_first_calendar_answers_for_unnamed_symbols(connection: psycopg.Connection[Any]) -> None:
    save_sessions(connection, sessions("XNYS", hours(15)))
    save_sessions(connection, sessions("24/7", hours(15, opens=0, closes=23)))
    table = load_sessions(connection, ["XNYS", "24/7"], date(2024, 1, 15), date(2024, 1, 15))
    assert table.calendar == "XNYS"
    assert table.with_calendars({"BTC-USD": "24/7"}).for_symbol("BTC-USD").opens_at.tolist() == [hours(15, opens=0)[1]]


def test_load_sessions_calendar_without_rows_says_which_and_what_to_do(connection: psycopg.Connection[Any]) -> None:
    save_sessions(connection, sessions("XNYS", hours(15)))
    with pytest.raises(ValueError, match=r"'XLON'.*trading_sessions"):
        load_sessions(connection, ["XNYS", "XLON"], date(2024, 1, 1), date(2024, 1, 31))


def test_load_sessions_calendar_that_ended_is_closed_and_stops_no_other(connection: psycopg.Connection[Any]) -> None:
    save_sessions(connection, sessions("XNYS", hours(15), hours(16)))
    save_sessions(connection, sessions("XSES", hours(2), hours(3)))
    table = load_sessions(connection, ["XNYS", "XSES"], date(2024, 1, 15), date(2024, 1, 16))
    ended = table.with_calendars({"D05.SI": "XSES"}).for_symbol("D05.SI")
    assert dates(ended) == [date(2024, 1, 3)]
    assert table.is_open(hours(15)[1])
    assert not ended.is_open(hours(15)[1])


def test_load_sessions_as_of_an_instant_is_the_record_as_it_stood(connection: psycopg.Connection[Any]) -> None:
    def closes(as_of: datetime) -> list[int]:
        table = load_sessions(connection, ["XNYS"], date(2024, 1, 15), date(2024, 1, 17), as_of=as_of)
        return table.closes_at.tolist()

    def now() -> datetime:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        return row[0]

    save_sessions(connection, sessions("XNYS", hours(15), hours(16)))
    first = now()
    save_sessions(connection, sessions("XNYS", hours(15, closes=18), hours(16), hours(17)))
    second = now()
    save_sessions(connection, sessions("XNYS", hours(15, closes=19)))
    assert closes(first) == [hours(15)[2], hours(16)[2]]
    assert closes(second) == [hours(15, closes=18)[2], hours(16)[2], hours(17)[2]]
    assert closes(now()) == [hours(15, closes=19)[2], hours(16)[2], hours(17)[2]]
