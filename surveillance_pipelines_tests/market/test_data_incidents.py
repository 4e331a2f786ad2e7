"""Faults of the data are found, named and dated; what is usual for a symbol or explained by the calendar is none."""

import math
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.bar_frames import complete_bars
from surveillance_pipelines.market.calendars import build_sessions, lunch_breaks
from surveillance_pipelines.market.data_incidents import DataIncident, find_data_incidents
from surveillance_pipelines.market.splits import possible_split

DAY = date(2023, 11, 22)
AFTER = datetime(2023, 12, 1, tzinfo=UTC)
HALF_DAY = date(2023, 11, 24)
"""The day after Thanksgiving: New York closes at 13:00."""


def table(calendar: str = "XNYS") -> SessionTable:
    return SessionTable.from_frame(build_sessions(calendar, date(2023, 10, 20), date(2023, 12, 20)))


def bars(
    symbol: str, sessions: SessionTable, *, share: float = 1.0, price: float = 100.0, seed: int = 1
) -> pl.DataFrame:
    """Return bars of the sessions of 6 to 30 November 2023, each minute with probability ``share``."""
    random, starts = np.random.default_rng(seed), []
    for opens, closes in zip(sessions.opens_at, sessions.closes_at, strict=True):
        if to_us(datetime(2023, 11, 6, tzinfo=UTC)) <= opens < to_us(AFTER):
            minutes = np.arange(opens, closes, 60_000_000)
            starts.append(minutes[random.random(len(minutes)) < share])
    instants = np.concatenate(starts)
    prices = price * np.exp(np.cumsum(random.normal(0.0, 0.0003, len(instants))))
    values = dict.fromkeys(("open", "high", "low", "close"), prices)
    frame = pl.DataFrame({"bar_start": instants, **values, "volume": random.integers(100, 900, len(instants))})
    return complete_bars(
        frame.with_columns(
            pl.col("bar_start").cast(pl.Datetime("us", "UTC")), pl.col("volume").cast(pl.Float64), symbol=pl.lit(symbol)
        ),
        source="file", adjustment="none", timeframe="1m", batch_id="test",
    )  # fmt: skip


def market(sessions: SessionTable) -> pl.DataFrame:
    parts = [bars("AAPL", sessions), bars("MSFT", sessions, seed=2), bars("THIN", sessions, share=0.15, seed=3)]
    return pl.concat(parts)


def at(hour: int, minute: int, day: date = DAY) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


def without(frame: pl.DataFrame, first: datetime, last: datetime, *symbols: str) -> pl.DataFrame:
    lost = pl.col("bar_start").is_between(first, last)
    return frame.filter(~(lost & pl.col("symbol").is_in(symbols)) if symbols else ~lost)


def found(frame: pl.DataFrame, sessions: SessionTable, first: date = DAY, last: date = DAY, now: datetime = AFTER,
          **options: dict[str, np.ndarray]) -> list[DataIncident]:  # fmt: skip
    return find_data_incidents(frame, sessions, first=first, last=last, now=to_us(now), **options)


def test_whole_market_without_faults_has_no_incident_on_full_half_and_closed_days():
    sessions = table()
    assert found(market(sessions), sessions, date(2023, 11, 13), date(2023, 11, 30)) == []


@pytest.mark.parametrize("minutes", [2, 3, 30])
def test_feed_silence_is_found_with_its_minutes(minutes: int):
    sessions, last = table(), at(16, 0) + timedelta(minutes=minutes - 1)
    (silence,) = found(without(market(sessions), at(16, 0), last), sessions)
    assert (silence.kind, silence.symbol, silence.minutes) == ("feed_silence", "", minutes)
    assert (silence.first_minute, silence.last_minute) == (to_us(at(16, 0)), to_us(last))


def test_symbol_that_stops_while_others_go_on_has_missing_bars_and_a_thin_one_has_none():
    sessions = table()
    frame = without(market(sessions), at(16, 0), at(16, 4), "AAPL", "THIN")
    (missing,) = found(frame, sessions)
    assert (missing.kind, missing.symbol, missing.minutes) == ("missing_bars", "AAPL", 5)


def test_every_second_bar_lost_is_one_incident_of_the_session():
    sessions = table()
    frame = market(sessions)
    odd = (pl.col("bar_start").dt.minute() % 2 == 1) & (pl.col("symbol") == "MSFT") & (pl.col("date") == DAY)
    (missing,) = found(frame.filter(~odd), sessions)
    assert (missing.kind, missing.symbol, missing.minutes) == ("missing_bars", "MSFT", 195)
    assert missing.evidence["missing_share"] == 0.5


def test_half_day_is_judged_up_to_its_close():
    sessions = table()
    cut = without(market(sessions), at(17, 50, HALF_DAY), at(17, 59, HALF_DAY))
    (silence,) = found(cut, sessions, HALF_DAY, HALF_DAY)
    assert (silence.minutes, silence.last_minute) == (10, to_us(at(17, 59, HALF_DAY)))


def test_session_in_progress_is_judged_up_to_now():
    sessions = table()
    until_four = market(sessions).filter(pl.col("bar_start") < at(16, 0))
    assert found(until_four, sessions, now=at(16, 1)) == []
    (silence,) = found(until_four, sessions, now=at(16, 2))
    assert silence.minutes == 2
    (longer,) = found(until_four, sessions, now=at(16, 9))
    assert (longer.minutes, longer.id) == (9, silence.id)


def test_lunch_break_is_no_silence():
    sessions = table("XHKG")
    breaks = lunch_breaks("XHKG", date(2023, 10, 20), date(2023, 12, 20))
    lunch = pl.col("bar_start").dt.time().is_between(time(4), time(4, 59))
    frame = bars("0700.HK", sessions).filter(~lunch)
    assert found(frame, sessions, breaks={"XHKG": breaks}) == []
    around = without(frame, at(3, 58), at(5, 1))
    (silence,) = found(around, sessions, breaks={"XHKG": breaks})
    assert silence.minutes == 4


def test_symbol_without_history_has_no_incident():
    sessions = table()
    frame = market(sessions).filter(pl.col("date") >= DAY)
    assert found(without(frame, at(16, 0), at(17, 0)), sessions) == []


def test_price_that_stands_still_without_volume_is_stale():
    sessions = table()
    frozen = (pl.col("symbol") == "AAPL") & pl.col("bar_start").is_between(at(16, 0), at(16, 19))
    prices = {name: pl.when(frozen).then(99.0).otherwise(name).alias(name) for name in ("open", "high", "low", "close")}
    still = market(sessions).with_columns(**prices)
    assert found(still, sessions) == []
    silent = still.with_columns(pl.when(frozen).then(0.0).otherwise("volume").alias("volume"))
    (stale,) = found(silent, sessions)
    assert (stale.kind, stale.symbol, stale.minutes) == ("stale_price", "AAPL", 19)


@pytest.mark.parametrize(("new", "old"), [(2, 1), (3, 2), (7, 1), (1, 20)])
def test_ratio_of_a_split_at_usual_turnover_is_a_possible_split(new: int, old: int):
    sessions = table()
    ratio = pl.when((pl.col("symbol") == "AAPL") & (pl.col("bar_start") >= at(0, 0))).then(old / new).otherwise(1.0)
    frame = market(sessions).with_columns(
        *(pl.col(name) * ratio for name in ("open", "high", "low", "close")), volume=pl.col("volume") / ratio
    )
    (split,) = found(frame, sessions)
    assert (split.kind, split.symbol, split.evidence["new"], split.evidence["old"]) == (
        "possible_split",
        "AAPL",
        new,
        old,
    )
    assert split.first_minute == to_us(at(14, 30))


QUIET = (0.004, -0.006, 0.008, -0.003, 0.005)


@pytest.mark.parametrize(
    ("opening", "turnover", "split"),
    [
        (50.2, 1.2, (2, 1)),
        (50.2, 9.0, None),  # news that halve a price multiply the turnover
        (56.0, 1.2, None),  # no ratio
        (98.5, 1.0, None),  # a dividend
        (80.0, 1.0, (5, 4)),
        (81.5, 1.0, None),  # small ratios need a close match, because news move prices as far
        (125.0, 1.0, None),  # no company makes five shares four
        (2_150.0, 9.0, (1, 20)),
    ],
)
def test_possible_split(opening: float, turnover: float, split: tuple[int, int] | None):
    answer = possible_split(100.0, opening, QUIET, turnover=turnover, usual_turnover=1.0)
    assert (None if answer is None else (answer.new, answer.old)) == split


def test_possible_split_of_a_volatile_stock_or_an_unknown_one_is_none():
    wild = (0.3, -0.25, 0.4, -0.35)
    assert possible_split(100.0, 50.0, wild, turnover=1.0, usual_turnover=1.0) is None
    assert possible_split(100.0, 50.0, QUIET[:2], turnover=1.0, usual_turnover=1.0) is None
    unknown = possible_split(100.0, 50.0, QUIET, turnover=0.0, usual_turnover=0.0)
    assert unknown is not None
    assert math.isnan(unknown.turnover)
