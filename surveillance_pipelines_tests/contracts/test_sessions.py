from datetime import UTC, date, datetime

import numpy as np
import pytest

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.frames import SESSION_SCHEMA, session_rows
from surveillance_pipelines.contracts.sessions import SessionTable


def at(day: int, hour: int, minute: int = 0) -> int:
    return to_us(datetime(2024, 1, day, hour, minute, tzinfo=UTC))


def new_york() -> list[tuple[str, date, int, int]]:
    return [("XNYS", date(2024, 1, day), at(day, 14, 30), at(day, 21)) for day in (4, 5, 8)]


def crypto() -> list[tuple[str, date, int, int]]:
    return [("24/7", date(2024, 1, day), at(day, 0), at(day + 1, 0)) for day in range(4, 9)]


@pytest.fixture
def table() -> SessionTable:
    return SessionTable.from_frame(session_rows(new_york()))


@pytest.mark.parametrize(
    ("instant", "session", "minute"),
    [
        (at(4, 14, 30), date(2024, 1, 4), 0.0),
        (at(4, 20, 59), date(2024, 1, 4), 389.0),
        (at(4, 13, 30), date(2024, 1, 4), -60.0),
        (at(4, 23), date(2024, 1, 4), 510.0),
        (at(5, 9), date(2024, 1, 5), -330.0),
        (at(1, 9), date(2024, 1, 4), -4650.0),
    ],
)
def test_position_instant_belongs_to_the_nearer_session(
    table: SessionTable, instant: int, session: date, minute: float
) -> None:
    assert table.position(instant) == (session.toordinal(), minute, 390.0)


def test_positions_vector_equals_the_scalar_bit_for_bit(table: SessionTable) -> None:
    instants = np.arange(at(3, 0), at(9, 0), 977_000_003, dtype=np.int64)
    ids, minutes, lengths = table.positions(instants)
    assert list(zip(ids.tolist(), minutes.tolist(), lengths.tolist(), strict=True)) == [
        table.position(instant) for instant in instants.tolist()
    ]


def test_is_open_opening_counts_and_closing_does_not(table: SessionTable) -> None:
    answers = [table.is_open(instant) for instant in (at(4, 14, 30), at(4, 20, 59), at(4, 21), at(6, 16))]
    assert answers == [True, True, False, False]


def test_covers_instant_past_the_last_close_is_not_known(table: SessionTable) -> None:
    assert table.covers(at(8, 20))
    assert not table.covers(at(8, 21))


def test_for_symbol_each_symbol_uses_its_own_calendar() -> None:
    frame = session_rows([*new_york(), *crypto()])
    table = SessionTable.from_frame(frame, calendar="XNYS", calendar_of={"BTC-USD": "24/7"})
    assert frame.schema == SESSION_SCHEMA
    assert table.for_symbol("AAPL") is table
    assert table.for_symbol("BTC-USD").position(at(6, 12)) == (date(2024, 1, 6).toordinal(), 720.0, 1440.0)
    assert table.with_calendars({"AAPL": "24/7"}).for_symbol("AAPL").calendar == "24/7"


def test_from_frame_calendar_that_is_absent_raises() -> None:
    with pytest.raises(ValueError, match=r"expected sessions of calendars \['XHKG'\]"):
        SessionTable.from_frame(session_rows(new_york()), calendar_of={"9988.HK": "XHKG"})


def test_from_frame_several_calendars_without_a_default_raises() -> None:
    with pytest.raises(ValueError, match="expected sessions of calendars"):
        SessionTable.from_frame(session_rows([*new_york(), *crypto()]))


def test_table_overlapping_sessions_raise() -> None:
    rows = [("X", date(2024, 1, 4), at(4, 10), at(4, 20)), ("X", date(2024, 1, 5), at(4, 19), at(5, 20))]
    with pytest.raises(ValueError, match="overlapping"):
        SessionTable.from_frame(session_rows(rows))
