"""The only access to the current time.

Instants are ``int`` microseconds since the Unix epoch, UTC, in the live core; ``datetime`` with ``tzinfo=UTC`` at the
boundaries (database, JSON, Dagster); ``Datetime("us", "UTC")`` in frames. No other module calls ``datetime.now`` or
``time.time``, so tests and replays can pass another ``Clock``.
"""

import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

MICROSECONDS: Final = 1_000_000
DAY_US: Final = 86_400 * MICROSECONDS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Reads the current time and waits."""

    def now_us(self) -> int: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The system clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock that advances only on request, for tests and replays."""

    def __init__(self, now: datetime) -> None:
        self._now_us = to_us(now)

    def now_us(self) -> int:
        return self._now_us

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._now_us += round(seconds * MICROSECONDS)


SYSTEM_CLOCK: Final = SystemClock()


def now(clock: Clock = SYSTEM_CLOCK) -> datetime:
    """Return the current instant as an aware UTC datetime."""
    return to_datetime(clock.now_us())


def to_us(instant: datetime) -> int:
    """Return an aware datetime as microseconds since the epoch.

    Raises:
        ValueError: if ``instant`` has no time zone.
    """
    if instant.tzinfo is None:
        raise ValueError(f"expected a datetime with a time zone, got the naive {instant!r}")
    return (instant - _EPOCH) // timedelta(microseconds=1)


def to_datetime(us: int) -> datetime:
    """Return microseconds since the epoch as an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=us)


@lru_cache(maxsize=4_096)  # the rows of a micro-batch share most instants
def to_iso(us: int) -> str:
    """Return microseconds since the epoch as ISO 8601 UTC with a ``Z``, the format of all JSON timestamps."""
    return to_datetime(us).isoformat(timespec="microseconds").replace("+00:00", "Z")


def utc_date(us: int) -> date:
    """Return the UTC date of an instant, which is the partition of a bar that starts then."""
    return to_datetime(us).date()


def day_start_us(day: date) -> int:
    """Return the first microsecond of a UTC date."""
    return to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))
