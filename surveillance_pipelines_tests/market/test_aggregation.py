from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.market import Bar, Tick, Timeframe
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.bar_builder import OpenBar, Print, bar_start_of, revise
from surveillance_pipelines.market.aggregation import bars_from_ticks, resample, very_late_revisions
from surveillance_pipelines.market.bars_to_ticks import ticks_from_bars
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines_tests.market.markets import bar, market_bars, minute, session_table, sessions, ticks

VALUES = ("open", "high", "low", "close", "volume", "trades")


def test_bars_from_ticks_orders_by_event_time_then_by_receipt() -> None:
    frame = ticks(
        (minute(15, 0, 30), 11.0, 5, "scored"),
        (minute(15, 0, 10), 10.0, 1, "scored"),  # received second, traded first
        (minute(15, 0, 10), 9.0, 2, "scored"),
        (minute(15, 0, 30), 12.0, 3, "scored"),
        (minute(15, 1, 0), 20.0, 4, "scored"),
    )
    bars = bars_from_ticks(frame)
    assert bars.schema == BAR_SCHEMA
    assert bars.select(VALUES).rows() == [(10.0, 12.0, 9.0, 12.0, 11.0, 4), (20.0, 20.0, 20.0, 20.0, 4.0, 1)]
    assert bars["event_time"].to_list() == [minute(15, 0, 30), minute(15, 1)]
    assert bars["source_message_id"].to_list() == ["3", "4"]


@pytest.mark.requirement("ING-07")
def test_bars_from_ticks_late_tick_creates_a_revision_and_keeps_revision_zero() -> None:
    frame = ticks(
        (minute(15, 0, 10), 10.0, 1, "scored"),
        (minute(15, 0, 5), 8.0, 2, "late"),
        (minute(15, 0, 50), 12.0, 4, "late"),
        (minute(15, 1, 50), 13.0, 8, "late"),
    )
    bars = bars_from_ticks(frame)
    rows = bars.select("revision", "bar_status", "open", "close", "volume").rows()
    assert rows == [
        (0, "final", 10.0, 10.0, 1.0),
        (1, "revised", 8.0, 10.0, 3.0),
        (2, "revised", 8.0, 12.0, 7.0),
        (1, "revised", 13.0, 13.0, 8.0),  # the minute had no bar when it closed
    ]


@pytest.mark.requirement("ING-07")
def test_very_late_revisions_continue_those_of_the_live_lane() -> None:
    received = ticks(
        (minute(15, 0, 10), 10.0, 1, "scored"),
        (minute(15, 0, 5), 8.0, 2, "late"),
        (minute(15, 1, 50), 13.0, 8, "scored"),
        (minute(15, 0, 50), 12.0, 4, "late"),
    )
    live = bars_from_ticks(received.head(3))
    assert very_late_revisions(received.head(3), live).is_empty()
    added = very_late_revisions(received, live)
    assert added.select("bar_start", "revision", "close", "volume").rows() == [(minute(15, 0), 2, 12.0, 7.0)]
    assert added.schema == live.schema


def test_bars_from_ticks_without_ticks_returns_no_bars_with_the_schema() -> None:
    assert bars_from_ticks(ticks((minute(15, 0), 1.0, 1, "scored")).clear()).schema == BAR_SCHEMA


@pytest.mark.parametrize("per_bar", [4, 5, 9])
def test_bars_from_ticks_inverts_ticks_from_bars(per_bar: int) -> None:
    bars = market_bars()
    again = bars_from_ticks(ticks_from_bars(bars, per_bar, seed=2))
    columns = ["symbol", "bar_start", *VALUES[:5]]
    assert again.select(columns).equals(bars.select(columns))
    assert set(again["trades"]) == {per_bar}


def test_ticks_from_bars_with_fewer_than_four_ticks_raises() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        ticks_from_bars(market_bars(), 3, seed=1)


def test_ticks_from_bars_are_ordered_within_their_minutes_and_seeded() -> None:
    bars = market_bars().head(50)
    frame = ticks_from_bars(bars, 6, seed=2)
    assert frame["event_time"].is_sorted()
    assert frame["event_time"].n_unique() == frame.height
    assert frame.equals(ticks_from_bars(bars, 6, seed=2))
    assert not frame.equals(ticks_from_bars(bars, 6, seed=3))


@pytest.mark.parametrize(("timeframe", "per_session"), [("5m", 78), ("15m", 26), ("1h", 7), ("4h", 2), ("1d", 1)])
def test_resample_aggregates_the_values_of_the_minutes(timeframe: Timeframe, per_session: int) -> None:
    bars = market_bars()
    longer = resample(bars, timeframe, session_table())
    assert longer.schema == BAR_SCHEMA
    assert longer.height == per_session * sessions().height * 4
    assert set(longer["timeframe"]) == {timeframe}
    totals = [frame.group_by("symbol").agg(pl.col("volume").sum()).sort("symbol") for frame in (bars, longer)]
    assert totals[0].equals(totals[1])
    assert longer["high"].max() == bars["high"].max()


def test_resample_hours_keep_exchange_local_times_across_daylight_saving() -> None:
    longer = resample(market_bars(), "4h", session_table())
    new_york = longer["bar_start"].dt.convert_time_zone("America/New_York").dt.strftime("%H:%M")
    assert set(new_york) == {"09:30", "13:30"}


def test_resample_bars_do_not_cross_the_opening_or_the_close() -> None:
    starts = [minute(14, 29), minute(14, 30), minute(20, 59), minute(21, 0), minute(21, 29)]
    bars = pl.concat([bar(start, 10.0 + place) for place, start in enumerate(starts)])
    hours = resample(bars, "1h", session_table()).select("bar_start", "open", "close").rows()
    assert hours == [
        (minute(13, 30), 10.0, 10.0),
        (minute(14, 30), 11.0, 11.0),
        (minute(20, 30), 12.0, 12.0),  # 30 minutes long
        (minute(21, 0), 13.0, 14.0),
    ]
    day = resample(bars, "1d", session_table())
    assert day.select("bar_start", "open", "close").rows() == [(minute(14, 30), 11.0, 12.0)]


def test_resample_crypto_is_anchored_to_utc() -> None:
    start = datetime(2024, 3, 6, 23, 59, tzinfo=UTC)
    bars = pl.concat([bar(start + timedelta(minutes=step), 10.0 + step) for step in range(2)])
    table = SessionTable.from_frame(build_sessions("24/7", date(2024, 3, 6), date(2024, 3, 7)))
    starts = resample(bars, "4h", table)["bar_start"].to_list()
    assert starts == [datetime(2024, 3, 6, 20, tzinfo=UTC), datetime(2024, 3, 7, tzinfo=UTC)]


def test_resample_ignores_revisions_and_records_the_source_of_lowest_precedence() -> None:
    mixed = pl.concat([bar(minute(15, 0), 10.0), bar(minute(15, 1), 11.0, source="simulated")])
    late = bar(minute(15, 1), 99.0).with_columns(revision=pl.lit(1, pl.Int32))
    longer = resample(pl.concat([mixed, late]), "5m", session_table())
    assert longer.select("close", "source", "volume").rows() == [(11.0, "simulated", 20.0)]


def test_resample_to_one_minute_raises() -> None:
    with pytest.raises(ValueError, match="longer than 1m"):
        resample(market_bars(), "1m", session_table())


EVENTS = st.lists(st.tuples(st.integers(0, 179), st.integers(1, 50), st.integers(0, 9)), min_size=1, max_size=25)


@given(EVENTS)
def test_bars_from_ticks_reproduces_the_bars_and_revisions_of_the_live_lane(events: list[tuple[int, int, int]]) -> None:
    opened: dict[int, OpenBar] = {}
    live: list[Bar] = []
    rows: list[tuple[datetime, float, float, str]] = []
    for number, (second, price, size) in enumerate(events):
        moment = minute(15, 0) + timedelta(seconds=second)
        start = bar_start_of(to_us(moment))
        print_ = Print(Tick("AAPL", float(price), float(size), to_us(moment)), float(size), str(number), to_us(moment))
        late = bool(opened) and start < max(opened)
        rows.append((moment, float(price), float(size), "late" if late else "scored"))
        if late:
            known = [bar for bar in live if bar.bar_start == start]
            live += [revise(known[-1], print_)] if known else []
        elif start in opened:
            opened[start].add(print_)
        else:
            live += [bar.to_bar("final", market_return=0.0, market_peers=0) for bar in opened.values() if
                     bar.bar_start not in {known.bar_start for known in live}]  # fmt: skip
            opened[start] = OpenBar.start(print_)
    rebuilt = bars_from_ticks(ticks(*rows)).with_columns(pl.col("bar_start", "event_time").dt.timestamp("us"))
    names = ("bar_start", "revision", "bar_status", *VALUES, "event_time", "source_message_id")
    known_to_us = {row[:2]: row for row in rebuilt.select(names).rows()}
    for served in live:
        assert known_to_us[served.bar_start, served.revision] == tuple(getattr(served, name) for name in names)
