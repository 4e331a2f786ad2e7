from datetime import UTC, date, datetime

import polars as pl
import pytest

from surveillance_pipelines.clock import MICROSECONDS, to_us
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.availability import (
    FillPlan,
    days_of,
    decide_source,
    gaps_to_fill,
    queue_is_silent,
)
from surveillance_pipelines_tests.market.markets import FIRST, LAST, market_bars, minute, session_table

OPENED = to_us(minute(14, 30))
NIGHT_BEFORE = OPENED - 17 * 3600 * MICROSECONDS


@pytest.mark.requirement("ING-02")
@pytest.mark.parametrize(
    ("last", "after_opening", "is_open", "silent"),
    [
        (NIGHT_BEFORE, 3600, False, False),
        (NIGHT_BEFORE, 60, True, False),
        (NIGHT_BEFORE, 301, True, True),
        (OPENED + 200 * MICROSECONDS, 500, True, False),
        (OPENED + 200 * MICROSECONDS, 501, True, True),
        (None, 299, True, False),
        (None, 301, True, True),
    ],
    ids=[
        "market closed",
        "just opened",
        "no word since",
        "at the limit",
        "past it",
        "never heard, early",
        "never heard",
    ],
)
def test_queue_is_silent_counts_only_open_hours(
    last: int | None, after_opening: int, is_open: bool, silent: bool
) -> None:
    now = OPENED + after_opening * MICROSECONDS
    assert queue_is_silent(last, now, 300.0, is_open, opened_at=OPENED) is silent


def test_queue_is_silent_without_messages_and_with_unknown_opening() -> None:
    assert queue_is_silent(None, OPENED, 300.0, session_open=True)


@pytest.mark.requirement("ING-02", "ING-03")
@pytest.mark.parametrize(
    ("use_queue", "fall_back", "reachable", "silent", "source"),
    [
        (True, True, True, False, "queue"),
        (True, False, True, False, "queue"),
        (True, True, True, True, "yahoo"),
        (True, True, False, False, "yahoo"),
        (False, True, True, False, "yahoo"),
        (True, False, True, True, "none"),
        (True, False, False, False, "none"),
        (False, False, True, False, "none"),
    ],
)
def test_decide_source_follows_the_settings(
    use_queue: bool, fall_back: bool, reachable: bool, silent: bool, source: str
) -> None:
    decision = decide_source(use_queue=use_queue, fall_back=fall_back, reachable=reachable, silent=silent)
    assert decision.source == source
    assert decision.is_fallback == (source == "yahoo")
    assert ("FALLBACK_TO_YFINANCE" in decision.reason) == (source == "none")


def plan(bars: pl.DataFrame, now: datetime, **options: int):
    return gaps_to_fill(bars, session_table(), ["AAPL", "TSLA"], first=FIRST, last=LAST, now=to_us(now), **options)


def of_apple(found: FillPlan) -> list[date]:
    return [gap.session_date for gap in found.fill if gap.symbol == "AAPL"]


@pytest.mark.requirement("ING-02")
def test_gaps_to_fill_returns_sessions_with_too_few_bars() -> None:
    thinned = market_bars().filter(
        (pl.col("symbol") == "AAPL") & ((pl.col("date") != date(2024, 3, 8)) | (pl.col("bar_start").dt.hour() < 17))
    )
    found = plan(thinned, datetime(2024, 3, 14, tzinfo=UTC))
    apple = [gap for gap in found.fill if gap.symbol == "AAPL"]
    assert [(gap.session_date, gap.bars_known, gap.bars_expected) for gap in apple] == [(date(2024, 3, 8), 150, 390)]
    assert sum(gap.symbol == "TSLA" for gap in found.fill) == 6  # no bar at all
    assert found.too_old == ()


def test_gaps_to_fill_running_session_is_measured_up_to_now() -> None:
    until_ten = market_bars().filter(pl.col("bar_start") < minute(15, 0))
    found = plan(until_ten, minute(15, 0, 20))
    assert [(gap.symbol, gap.bars_expected) for gap in found.fill] == [("TSLA", 30)]


@pytest.mark.requirement("ING-02")
def test_gaps_to_fill_late_outage_in_a_long_session_is_a_gap_during_and_after_it() -> None:
    until_two = market_bars().filter(pl.col("bar_start") < minute(19, 0))  # 270 of 390 minutes: most of the session
    assert of_apple(plan(until_two, minute(19, 10))) == []
    assert of_apple(plan(until_two, minute(19, 10), edge_minutes=0)) == [FIRST]
    assert of_apple(plan(until_two, minute(19, 20))) == [FIRST]
    assert of_apple(plan(until_two, minute(23, 0))) == [FIRST]


def test_gaps_to_fill_late_start_and_long_break_are_gaps_but_lunch_is_not() -> None:
    def without(start: datetime, end: datetime) -> list[date]:
        outside = ~pl.col("bar_start").is_between(start, end, closed="left")
        return of_apple(plan(market_bars().filter(outside), minute(23, 0)))

    assert without(minute(14, 30), minute(14, 50)) == [FIRST]
    assert without(minute(16, 0), minute(17, 50)) == [FIRST]
    assert without(minute(16, 0), minute(17, 30)) == []


def test_gaps_to_fill_session_over_two_utc_days_is_found_on_both() -> None:
    opens = datetime(2024, 3, 6, 23, 0, tzinfo=UTC)  # Sydney's session of 7 March
    rows = session_rows([("XASX", date(2024, 3, 7), to_us(opens), to_us(opens) + 6 * 3600 * MICROSECONDS)])
    for day in (date(2024, 3, 6), date(2024, 3, 7)):
        found = gaps_to_fill(
            market_bars().clear(), SessionTable.from_frame(rows), ["BHP.AX"], first=day, last=day,
            now=to_us(datetime(2024, 3, 7, 2, tzinfo=UTC)),
        )  # fmt: skip
        assert [(gap.session_date, gap.bars_expected) for gap in found.fill] == [(date(2024, 3, 7), 180)]


def test_gaps_to_fill_too_old_for_yahoo_are_listed_separately() -> None:
    found = plan(market_bars().clear(), datetime(2024, 4, 9, tzinfo=UTC))
    assert {gap.session_date for gap in found.fill} == {date(2024, 3, 11), date(2024, 3, 12), date(2024, 3, 13)}
    assert len(found.too_old) == 6
    assert days_of(found.fill) == (date(2024, 3, 11), date(2024, 3, 12), date(2024, 3, 13))
