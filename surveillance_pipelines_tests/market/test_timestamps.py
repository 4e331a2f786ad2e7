"""Times as users write them: each spelling is read as the instant that it means, or refused with a reason."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from surveillance_pipelines.market.timestamps import TimeFormatError, TimeOptions, exchange_dates, parse_times

INSTANT = datetime(2024, 3, 6, 14, 30, tzinfo=UTC)
NEW_YORK = TimeOptions(timezone="America/New_York")
NONE = TimeOptions()


def read(*values: object, options: TimeOptions = NONE) -> list[datetime | None]:
    return parse_times(pl.Series("ts", list(values), strict=True), options).instants.to_list()


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-06T14:30:00Z", "2024-03-06 14:30:00Z", "2024-03-06T14:30Z", "2024-03-06T14:30:00.000Z",
        "2024-03-06T14:30:00.000000000Z", "2024-03-06T14:30:00+00:00", "2024-03-06 14:30:00+00",
        "2024-03-06T09:30:00-05",
        "2024-03-06T09:30:00-0500", "2024-03-06T09:30:00-05:00", "2024-03-06 14:30:00 UTC", "2024-03-06 14:30:00 GMT",
        "2024-03-06 15:30:00 GMT+0100", "2024-03-06 09:30:00 America/New_York", "2024-03-06 09:30:00 US/Eastern",
        "2024-03-06 09:30:00 EST", "20240306T143000Z", "20240306 143000 UTC", "20240306T1430Z", "20240306 14:30:00Z",
        "2024/03/06 14:30:00Z", "2024.03.06 14:30:00Z", "2024-3-6 14:30:00Z", "06-Mar-2024 14:30:00Z",
        "Mar 6, 2024 14:30:00Z", "March 6, 2024 2:30 PM UTC", "06.03.2024 14:30:00Z", "2024-03-06 02:30:00 PM Z",
        "2024-03-06T14:30:00,000Z", "2024-03-06t14:30:00z", "2024-03-06T20:00:00+05:30",
        "2024-W10-3T14:30:00Z", "2024-03-06T14:30:30+00:00:30", "2024-03-06, 14:30:00Z",
        "1709735400", "1709735400.0", "1709735400000", "1709735400000000", "1709735400000000000",
    ],
)  # fmt: skip
def test_spelling_with_its_zone_is_read(text: str) -> None:
    assert read(text) == [INSTANT]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("2024-03-06 09:30", NEW_YORK), ("20240306093000", NEW_YORK), ("202403060930", NEW_YORK),
        ("20240306  09:30:00", NEW_YORK), ("3/6/2024 9:30", TimeOptions(timezone="America/New_York", date_order="mdy")),
        ("6/3/24 9:30 AM", TimeOptions(timezone="America/New_York", date_order="dmy")),
        ("06.03.2024 9:30:00", NEW_YORK), (20240306093000, NEW_YORK), (datetime(2024, 3, 6, 9, 30), NEW_YORK),  # noqa: DTZ001
    ],
)  # fmt: skip
def test_spelling_without_a_zone_is_read_in_the_given_one(text: object, options: TimeOptions) -> None:
    assert read(text, options=options) == [INSTANT]


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        ("1709735400.25", 250_000), ("1709735400250.5", 250_500), ("2024-03-06T14:30:00.123456789Z", 123_456),
        ("1709735400123456789", 123_456), (1709735400.25, 250_000), ("2024-03-06T14:30:00.5Z", 500_000),
    ],
)  # fmt: skip
def test_fraction_of_a_second_is_kept_to_the_microsecond(value: object, microseconds: int) -> None:
    assert read(value) == [INSTANT.replace(microsecond=microseconds)]


@pytest.mark.parametrize(
    "text",
    ["soon", "2024-02-30T14:30:00Z", "2024-03-06T24:00:00Z", "2024-03-06T14:60:00Z", "2024-03-06T14:30:00+99:00",
     "2024-03-06 13:30 PM Z", "14:30:00Z", "2024-03-06T14:30:00 CST", "1.70974E+09", "2024-13-06T00:00:00Z"],
)  # fmt: skip
def test_text_that_is_no_time_is_refused_with_the_text(text: str) -> None:
    found = parse_times(pl.Series("ts", ["2024-03-06T14:30:00Z", text, None]), NONE)
    assert found.instants.to_list() == [INSTANT, None, None]
    assert found.reasons.to_list() == [None, f"expected a time such as 2024-03-06T14:30:00Z, got '{text}' for ts", None]


def test_value_without_a_zone_among_values_with_one_is_refused() -> None:
    found = parse_times(pl.Series("ts", ["2024-03-06T14:30:00Z", "2024-03-06T14:31:00"]), NONE)
    assert found.instants.to_list() == [INSTANT, None]
    assert found.reasons[1] == "expected a time zone, as the other values of ts have, got '2024-03-06T14:31:00'"


@pytest.mark.parametrize(
    ("values", "lacks"),
    [
        (["2024-03-06 14:30:00"], "timezone"),
        (["03/04/2024 14:30:00Z", "05/06/2024 14:30:00Z"], "date_order"),
        (["13/04/2024 14:30:00Z", "05/16/2024 14:30:00Z"], "date_order"),
        (["12", "13"], "unit"),
        (["45000.5", "45001.5"], "unit"),
    ],
)
def test_column_that_leaves_a_fact_open_asks_for_it(values: list[str], lacks: str) -> None:
    with pytest.raises(TimeFormatError) as raised:
        read(*values)
    assert raised.value.lacks == lacks
    assert raised.value.remedy


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["13/03/2024", "04/03/2024"], [13, 4]),
        (["03/13/2024", "03/04/2024"], [13, 4]),
        (["13.03.2024", "04.03.2024"], [13, 4]),
    ],
)
def test_order_of_day_and_month_is_judged_for_the_column(values: list[str], expected: list[int]) -> None:
    found = read(*values, options=TimeOptions(allows_dates=True))
    assert [(at.month, at.day) for at in found if at] == [(3, day) for day in expected]


def test_unit_is_judged_for_the_column_and_a_number_of_another_unit_is_refused() -> None:
    found = parse_times(pl.Series("ts", ["1709735400000", "1709735460000", "1709735400"]), NONE)
    assert found.instants.to_list() == [INSTANT, INSTANT.replace(minute=31), None]
    assert found.reasons[2] == "expected an epoch in ms from 1975 to 2100, got '1709735400'"


def test_skipped_hour_of_spring_is_refused() -> None:
    found = parse_times(pl.Series("ts", ["2024-03-10 02:30:00", "2024-03-10 03:30:00"]), NEW_YORK)
    assert found.instants.null_count() == 1
    assert "clocks change: '2024-03-10 02:30:00' is skipped in America/New_York" in found.reasons[0]


def autumn(*clocks: str) -> pl.Series:
    return pl.Series("ts", [f"2024-11-03 {clock}" for clock in clocks])


@pytest.mark.parametrize(
    ("clocks", "hours"),
    [
        (("00:59", "01:00", "01:30", "01:00", "01:30", "02:00"), [4, 5, 5, 6, 6, 7]),
        (("02:00", "01:30", "01:00", "01:30", "01:00", "00:59"), [7, 6, 6, 5, 5, 4]),
        (("00:59", "01:00", "01:30", "02:00"), [4, None, None, 7]),
        (("00:59", "01:30", "01:00", "01:30", "01:00", "02:00"), [4, None, None, None, None, 7]),
    ],
    ids=["twice", "twice, newest first", "once", "out of order"],
)
def test_repeated_hour_of_autumn(clocks: tuple[str, ...], hours: list[int | None]) -> None:
    found = parse_times(autumn(*clocks), NEW_YORK)
    assert [at and at.hour for at in found.instants.to_list()] == hours
    unclear = [reason for at, reason in zip(found.instants, found.reasons, strict=True) if at is None]
    assert all("clocks change" in reason and "occurs twice" in reason for reason in unclear)


def test_repeated_hour_is_told_apart_for_each_symbol() -> None:
    clocks = ("00:59", "00:59", "01:00", "01:00", "01:00", "02:00", "02:00")
    symbols = pl.Series(["A", "B", "A", "B", "A", "A", "B"])
    found = parse_times(autumn(*clocks), NEW_YORK, series=symbols, has_repeats=False)
    assert [at and at.hour for at in found.instants.to_list()] == [4, 4, 5, None, 6, 7, 7]


@pytest.mark.parametrize(
    ("values", "timezone", "days"),
    [
        (["2024-03-07 00:00:00-05:00", "2024-03-11 00:00:00-04:00"], None, [7, 11]),
        (["2024-03-07 00:00:00+09:00", "2024-03-08 00:00:00+09:00"], None, [7, 8]),
        (["2024-03-07", "2024-03-08"], None, [7, 8]),
        (["2024-03-07T05:00:00Z", "2024-03-11T04:00:00Z"], "America/New_York", [7, 11]),
        (["2024-03-06T15:00:00Z"], "Asia/Tokyo", [7]),
        (["2024-03-07T05:00:00Z"], None, None),
    ],
)
def test_exchange_dates(values: list[str], timezone: Any, days: list[int] | None) -> None:
    times = parse_times(pl.Series("ts", values), TimeOptions(timezone=timezone, allows_dates=True))
    dates = exchange_dates(times, timezone)
    assert (None if dates is None else dates.dt.day().to_list()) == days
