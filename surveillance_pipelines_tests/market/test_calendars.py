from datetime import UTC, date, datetime

import pytest

from surveillance_pipelines.contracts.frames import SESSION_SCHEMA
from surveillance_pipelines.market.calendars import build_sessions, guess_calendar


def test_build_sessions_holiday_is_absent_and_half_day_closes_early() -> None:
    rows = build_sessions("XNYS", date(2022, 11, 23), date(2022, 11, 27))
    assert rows.schema == SESSION_SCHEMA
    assert rows["session_date"].to_list() == [date(2022, 11, 23), date(2022, 11, 25)]
    assert rows["opens_at"][0] == datetime(2022, 11, 23, 14, 30, tzinfo=UTC)
    assert rows["closes_at"].to_list()[1] == datetime(2022, 11, 25, 18, tzinfo=UTC)


def test_build_sessions_daylight_saving_moves_the_opening_in_utc() -> None:
    rows = build_sessions("XNYS", date(2022, 3, 11), date(2022, 3, 14))
    assert [opening.hour for opening in rows["opens_at"]] == [14, 13]


def test_build_sessions_crypto_has_every_utc_day() -> None:
    rows = build_sessions("24/7", date(2022, 12, 31), date(2023, 1, 2))
    assert rows.height == 3
    assert rows["closes_at"].to_list()[:2] == rows["opens_at"].to_list()[1:]


def test_build_sessions_range_without_a_session_is_empty() -> None:
    assert build_sessions("XNYS", date(2022, 11, 26), date(2022, 11, 27)).is_empty()


def test_build_sessions_beyond_the_recorded_range_ends_with_it() -> None:
    rows = build_sessions("XSES", date(2024, 1, 1), date(2099, 1, 1))
    assert rows["session_date"].min() == date(2024, 1, 2)
    assert date(2024, 12, 1) < rows["session_date"].to_list()[-1] < date(2099, 1, 1)


@pytest.mark.parametrize(
    ("calendar", "day"), [("NOPE", date(2022, 1, 3)), ("XHKG", date(1930, 1, 1))], ids=["unknown name", "unknown dates"]
)
def test_build_sessions_with_an_unknown_calendar_or_range_raises(calendar: str, day: date) -> None:
    with pytest.raises(ValueError, match="expected"):
        build_sessions(calendar, day, day)


@pytest.mark.parametrize(
    ("symbol", "calendar"),
    [("AAPL", "XNYS"), ("BRK-B", "XNYS"), ("9988.HK", "XHKG"), ("BTC-USD", "24/7"), ("BTCUSDT", "24/7"),
     ("XRP/ETH", "24/7"), ("BF.B", "XNYS")],
)  # fmt: skip
def test_guess_calendar_follows_the_spelling(symbol: str, calendar: str) -> None:
    assert guess_calendar(symbol, "XNYS") == calendar
