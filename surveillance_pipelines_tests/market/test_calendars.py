from datetime import UTC, date, datetime

import exchange_calendars
import pytest

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.frames import SESSION_SCHEMA
from surveillance_pipelines.market.calendar_choice import (
    ALWAYS_OPEN,
    INDICES,
    SUFFIXES,
    VENUES,
    WEEKDAYS,
    choose_calendar,
)
from surveillance_pipelines.market.calendars import build_sessions, calendar_begins, canonical_calendar


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


def test_build_sessions_before_the_calendar_begins_are_empty() -> None:
    rows = build_sessions("XTKS", date(1990, 1, 1), date(1997, 1, 7))
    assert rows["session_date"].to_list() == [date(1997, 1, 6), date(1997, 1, 7)]
    assert build_sessions("XHKG", date(1930, 1, 1), date(1930, 1, 9)).is_empty()
    assert calendar_begins("XTKS") == date(1997, 1, 1)
    assert calendar_begins("24/7") is None


def test_build_sessions_of_currency_pairs_has_every_weekday() -> None:
    rows = build_sessions("24/5", date(2024, 3, 8), date(2024, 3, 11))
    assert rows["session_date"].to_list() == [date(2024, 3, 8), date(2024, 3, 11)]


def test_build_sessions_with_an_unknown_calendar_raises() -> None:
    with pytest.raises(ValueError, match="expected a calendar such as XNYS"):
        build_sessions("NOPE", date(2022, 1, 3), date(2022, 1, 3))


TABLES = {*SUFFIXES.values(), *VENUES.values(), *INDICES.values(), WEEKDAYS, ALWAYS_OPEN}


def test_library_has_every_calendar_of_the_tables() -> None:
    assert TABLES - {ALWAYS_OPEN} <= set(exchange_calendars.get_calendar_names(include_aliases=True))


@pytest.mark.slow
def test_every_calendar_of_the_tables_has_the_sessions_of_a_week() -> None:
    for calendar in TABLES - {"ASEX", "XBSE"}:
        assert build_sessions(calendar, date(2026, 3, 2), date(2026, 3, 8)).height >= 4


@pytest.mark.parametrize(
    ("calendar", "day", "reason"),
    [
        # The library's Tel Aviv moved from Sundays to Fridays in 2026, and cannot be built for earlier days.
        ("XTAE", date(2024, 3, 1), "XTAE cannot be: Special dates"),
        # Its orthodox Easter does not work with this release of pandas.
        ("ASEX", date(2024, 3, 1), "ASEX cannot be"),
        ("XBSE", date(2024, 3, 1), "XBSE cannot be"),
    ],
)
def test_build_sessions_that_the_library_cannot_build_says_so(calendar: str, day: date, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        build_sessions(calendar, day, day)


@pytest.mark.parametrize(
    ("symbol", "calendar", "basis", "asset_class"),
    [
        ("AAPL", "XNYS", "default", None), ("BRK-B", "XNYS", "default", None), ("BF.B", "XNYS", "default", None),
        ("9988.HK", "XHKG", "suffix", "equity"), ("600519.SS", "XSHG", "suffix", "equity"),
        ("000001.SZ", "XSHG", "suffix", "equity"), ("RELIANCE.NS", "XBOM", "suffix", "equity"),
        ("PETR4.SA", "BVMF", "suffix", "equity"), ("2330.TW", "XTAI", "suffix", "equity"),
        ("SAN.MC", "XMAD", "suffix", "equity"), ("VOLV-B.ST", "XSTO", "suffix", "equity"),
        ("NPN.JO", "XJSE", "suffix", "equity"), ("035760.KQ", "XKRX", "suffix", "equity"),
        ("ABC.V", "XTSE", "suffix", "equity"), ("AAPL.US", "XNYS", "suffix", "equity"),
        ("AAPL.NASDAQ", "XNYS", "venue", "equity"), ("AIR.XPAR", "XPAR", "venue", "equity"),
        ("BTC-USD", "24/7", "crypto pair", "crypto"), ("BTC-EUR", "24/7", "crypto pair", "crypto"),
        ("BTCUSDT", "24/7", "crypto pair", "crypto"), ("XRP/ETH", "24/7", "crypto pair", "crypto"),
        ("ETH-BTC", "24/7", "crypto pair", "crypto"), ("SOLUSD", "24/7", "crypto pair", "crypto"),
        ("BTCEUR", "24/7", "crypto pair", "crypto"), ("NEWCOIN-USD", "24/7", "crypto pair", "crypto"),
        ("BTC-PERP", "24/7", "crypto pair", "crypto"), ("BTCUSD.COINBASE.SPOT", "24/7", "venue", "crypto"),
        ("EURUSD=X", "24/5", "currency pair", "fx"), ("EUR/USD", "24/5", "currency pair", "fx"),
        ("EURUSD", "24/5", "currency pair", "fx"), ("ES=F", "CMES", "future", "future"),
        ("BZ=F", "IEPA", "future", "future"), ("^N225", "XTKS", "index", "index"), ("^FTSE", "XLON", "index", "index"),
        ("^UNKNOWN", "XNYS", "default", None), ("SHUSD", "XNYS", "default", None),
    ],
)  # fmt: skip
def test_choose_calendar_follows_the_spelling_and_says_so(
    symbol: str, calendar: str, basis: str, asset_class: str | None
) -> None:
    choice = choose_calendar(symbol)
    assert (choice.calendar, choice.basis, choice.asset_class) == (calendar, basis, asset_class)
    assert choose_calendar(symbol, stated="XLON").sentence == "XLON (as stated)"
    assert choice.is_assumed == ("assumed" in choice.sentence)


@pytest.mark.parametrize(
    ("name", "calendar"), [("NYSE", "XNYS"), ("NASDAQ", "XNYS"), ("XHKG", "XHKG"), ("24/7", "24/7"), ("XXXX", "XXXX")]
)
def test_canonical_calendar_resolves_other_names_of_a_calendar(name: str, calendar: str) -> None:
    assert canonical_calendar(name) == calendar
