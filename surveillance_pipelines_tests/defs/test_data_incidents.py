"""Data incidents from bars of the lake and from the live feed: one row each, a check in words, and none at rest."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.feed_sensor import data_incident_sensor
from surveillance_pipelines.market.simulator import default_market, simulate
from surveillance_pipelines.services.data_incidents import list_data_incidents, update_data_incidents
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines_tests.defs.conftest import SYMBOLS
from surveillance_pipelines_tests.defs.runs import check_of, metadata_of, run_job

FIRST, DAY = date(2024, 2, 26), date(2024, 3, 6)
STOP = datetime(2024, 3, 6, 16, 0, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    manual = ManualClock(datetime(2024, 3, 7, 3, tzinfo=UTC))
    monkeypatch.setattr(PlatformResource, "clock", property(lambda _self: manual))
    return manual


@pytest.fixture
def history(platform: PlatformResource, simulated_sessions: pl.DataFrame, clock: ManualClock) -> pl.DataFrame:
    """Eight sessions of three symbols; reference data is registered, and nothing is in the lake."""
    chosen = simulated_sessions.filter(pl.col("session_date").is_between(FIRST, DAY))
    with platform.connect() as connection:
        register_instruments(connection, SYMBOLS, "XNYS", "test")
        save_sessions(connection, simulated_sessions)
    return simulate(default_market(SYMBOLS, seed=5), chosen)


def write(platform: PlatformResource, bars: pl.DataFrame) -> None:
    platform.lake.write_days("bars_1m", bars, days=bars["date"].unique().sort().to_list())


def rows(platform: PlatformResource) -> list[tuple[str, str, int, str, bool]]:
    found = list_data_incidents(platform, symbols=(), since=None, until=None, limit=50)
    return [(row.kind, row.symbol, row.minutes, row.found_by, row.resolved_at is None) for row in found]


def test_market_data_job_stores_data_incidents_once_and_says_what_to_do(
    platform: PlatformResource, history: pl.DataFrame, instance: dg.DagsterInstance
):
    lost = pl.col("bar_start").is_between(STOP, STOP + timedelta(minutes=9)) & (pl.col("symbol") == "SPY")
    platform.lake.append("bars_landed", history.filter(~lost), batch_id="with a gap")
    run_job("market_data_job", platform, instance, tags=range_tags(FIRST, DAY))
    result = run_job("market_data_job", platform, instance, tags=range_tags(FIRST, DAY))
    assert rows(platform) == [("missing_bars", "SPY", 10, "bars", True)]
    check = check_of(result, "data_is_complete")
    assert not check.passed
    said = str(check.description)
    assert "SPY has no bar for 10 minutes while others do" in said
    assert "2024-03-06 16:00 to 16:09 UTC" in said
    assert "surveillance ingest" in said
    figures = metadata_of(result, "data_incidents")
    assert (figures["dagster/partition_row_count"], figures["new_rows"]) == (1, 0)
    assert "data:image/png" in figures["coverage"]


def test_incident_whose_bars_arrive_later_is_kept_as_resolved(platform: PlatformResource, history: pl.DataFrame):
    lost = pl.col("bar_start").is_between(STOP, STOP + timedelta(minutes=4))
    write(platform, history.filter(~lost))
    assert update_data_incidents(platform, DAY, DAY).new == 1
    write(platform, history)
    again = update_data_incidents(platform, DAY, DAY)
    assert (again.incidents, again.resolved) == ((), 1)
    assert rows(platform) == [("feed_silence", "", 5, "bars", False)]


def look(platform: PlatformResource, instance: dg.DagsterInstance, cursor: str = "") -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, resources={"platform": platform}, cursor=cursor)
    result: Any = data_incident_sensor(context)
    assert isinstance(result, dg.SensorResult), result
    return result


def serve(platform: PlatformResource, bars: pl.DataFrame) -> None:
    with platform.connect() as connection:
        for row in bars.iter_rows(named=True):
            connection.execute(
                "INSERT INTO ops.live_bars (symbol, bar_start, revision, open, high, low, close, volume, trades,"
                " first_event_time, event_time, bar_status, knowledge_time, source_message_id, market_return,"
                " market_peers, source, queue_url, committed_at) VALUES (%(symbol)s, %(bar_start)s, 0, %(open)s,"
                " %(high)s, %(low)s, %(close)s, %(volume)s, 1, %(bar_start)s, %(bar_start)s, 'final', %(bar_start)s,"
                " 'm', 0, 0, 'sqs', 'q', %(bar_start)s)",
                row,
            )


def test_live_feed_that_falls_silent_is_an_incident_within_two_minutes_and_ends(
    platform: PlatformResource, history: pl.DataFrame, clock: ManualClock, instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setenv("USE_SQS_DATA_SOURCE", "true")
    write(platform, history.filter(pl.col("date") < DAY))
    today = history.filter(pl.col("date") == DAY)
    serve(platform, today.filter(pl.col("bar_start") < STOP))

    def at(instant: datetime) -> None:
        clock.advance((instant.timestamp() * 1e6 - clock.now_us()) / 1e6)

    at(STOP + timedelta(seconds=65))
    assert look(platform, instance).asset_events == []
    at(STOP + timedelta(seconds=125))
    began = look(platform, instance)
    assert [event.passed for event in began.asset_events if isinstance(event, dg.AssetCheckEvaluation)] == [False]
    assert rows(platform) == [("feed_silence", "", 2, "live", True)]
    at(STOP + timedelta(seconds=245))
    assert look(platform, instance, began.cursor or "").asset_events == []
    assert rows(platform) == [("feed_silence", "", 4, "live", True)]
    serve(
        platform, today.filter(pl.col("bar_start").is_between(STOP + timedelta(minutes=4), STOP + timedelta(minutes=9)))
    )
    at(STOP + timedelta(minutes=10, seconds=5))
    ended = look(platform, instance, began.cursor or "")
    assert [event.passed for event in ended.asset_events if isinstance(event, dg.AssetCheckEvaluation)] == [True]


@pytest.mark.parametrize("now", [datetime(2024, 3, 6, 12, tzinfo=UTC), datetime(2024, 3, 9, 16, tzinfo=UTC)])
def test_live_feed_outside_sessions_is_not_judged(
    platform: PlatformResource, history: pl.DataFrame, clock: ManualClock, instance: dg.DagsterInstance, now: datetime,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setenv("USE_SQS_DATA_SOURCE", "true")
    write(platform, history.filter(pl.col("date") < DAY))
    clock.advance((now.timestamp() * 1e6 - clock.now_us()) / 1e6)
    assert "no market of SYMBOLS is open" in str(look(platform, instance).skip_reason)
    assert rows(platform) == []
