import time
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surveillance_pipelines.clock import (
    DAY_US,
    SYSTEM_CLOCK,
    ManualClock,
    day_start_us,
    now,
    to_datetime,
    to_iso,
    to_us,
    utc_date,
)

NOON = datetime(2024, 1, 15, 12, 0, tzinfo=UTC)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 bounds are naive
def test_to_us_and_back_any_instant_is_exact(instant):
    assert to_datetime(to_us(instant)) == instant


def test_to_us_naive_datetime_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        to_us(datetime(2024, 1, 15))  # noqa: DTZ001


def test_to_us_other_time_zone_is_the_same_instant():
    new_york = timezone(timedelta(hours=-5))
    assert to_us(datetime(2024, 1, 15, 7, 0, tzinfo=new_york)) == to_us(NOON)


@pytest.mark.requirement("SCH-34")
@pytest.mark.parametrize(
    ("us", "text"),
    [(0, "1970-01-01T00:00:00.000000Z"), (to_us(NOON) + 1, "2024-01-15T12:00:00.000001Z")],
)
def test_to_iso_is_utc_with_microseconds_and_z(us, text):
    assert to_iso(us) == text
    assert datetime.fromisoformat(text) == to_datetime(us)


def test_utc_date_changes_at_midnight_utc():
    midnight = day_start_us(date(2024, 1, 16))
    assert utc_date(midnight - 1) == date(2024, 1, 15)
    assert utc_date(midnight) == date(2024, 1, 16)


def test_day_start_us_consecutive_days_are_one_day_apart():
    assert day_start_us(date(2024, 3, 1)) - day_start_us(date(2024, 2, 29)) == DAY_US


def test_manual_clock_moves_only_when_told():
    clock = ManualClock(NOON)
    assert clock.now_us() == clock.now_us() == to_us(NOON)
    clock.advance(0.5)
    clock.sleep(1.5)
    assert now(clock) == NOON + timedelta(seconds=2)


def test_system_clock_reads_the_machine_clock():
    before = time.time_ns() // 1_000
    read = SYSTEM_CLOCK.now_us()
    assert before <= read <= time.time_ns() // 1_000
    assert now().tzinfo is UTC


def test_system_clock_sleep_waits():
    start = time.monotonic()
    SYSTEM_CLOCK.sleep(0.02)
    assert time.monotonic() - start >= 0.02
