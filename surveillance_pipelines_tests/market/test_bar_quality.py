"""Repeated rows, silences and age of bars."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.bar_frames import complete_bars
from surveillance_pipelines.market.bar_quality import repeated_bars, sessions_behind, silences

OPEN = datetime(2024, 3, 5, 14, 30, tzinfo=UTC)
DAY_US = 86_400_000_000


def sessions() -> SessionTable:
    opens = [to_us(OPEN + timedelta(days=day)) for day in range(3)]
    rows = [
        ("XNYS", (OPEN + timedelta(days=day)).date(), opens[day], opens[day] + 390 * 60_000_000) for day in range(3)
    ]
    return SessionTable.from_frame(session_rows(rows))


def bars(*minutes: int) -> pl.DataFrame:
    starts = [OPEN + timedelta(minutes=minute) for minute in minutes]
    columns = {"symbol": "SPY", **dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)}
    frame = pl.DataFrame({"bar_start": starts}).with_columns(**{name: pl.lit(value) for name, value in columns.items()})
    return complete_bars(frame, source="file", adjustment="none", timeframe="1m", batch_id="test")


def test_repeated_bars_counts_rows_beyond_the_first():
    assert repeated_bars(bars(0, 1, 2)) == 0
    assert repeated_bars(bars(0, 1, 1, 1)) == 2


def test_silences_within_a_session_are_found_with_their_length():
    (found,) = silences(bars(0, 1, 30, 31), sessions())
    assert (found.symbol, found.since, found.minutes) == ("SPY", to_us(OPEN) + 60_000_000, 28)


def test_silences_ignores_short_ones_and_those_between_sessions():
    assert silences(bars(0, 16, 32), sessions()) == []
    assert silences(bars(389, 24 * 60), sessions()) == []
    assert silences(bars(-60, 0, 389, 450), sessions(), longest=400) == []


@pytest.mark.parametrize(
    ("last_minute", "days_later", "behind"),
    [(389, 0.5, 0), (100, 0.1, 0), (389, 1.0, 0), (389, 1.5, 1), (389, 2.5, 2), (-30, 0.5, 1)],
)
def test_sessions_behind_counts_sessions_that_closed_since(last_minute: int, days_later: float, behind: int):
    last = to_us(OPEN + timedelta(minutes=last_minute))
    assert sessions_behind(last, sessions(), to_us(OPEN) + round(days_later * DAY_US)) == behind
