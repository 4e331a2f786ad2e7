"""Fallback to Yahoo while the queue is silent: the sensor requests a run, which fetches the bars and lands them."""

import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.sensors import yahoo_fallback_sensor
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.market.client import BarRequest
from surveillance_pipelines.market.yahoo import YahooClient
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines.transports.queue_routing import queue_for_symbol
from surveillance_pipelines.transports.sqs import QueueClient
from surveillance_pipelines_tests.defs.conftest import SYMBOLS
from surveillance_pipelines_tests.defs.runs import check_of, metadata_of, run_job

DAY = date(2024, 3, 5)
OPENING = datetime(2024, 3, 5, 14, 30, tzinfo=UTC)
STOPPED = datetime(2024, 3, 5, 18, 0, tzinfo=UTC)
NOW = datetime(2024, 3, 5, 18, 30, 20, tzinfo=UTC)


def look(platform: PlatformResource, instance: dg.DagsterInstance) -> Any:
    return yahoo_fallback_sensor(dg.build_sensor_context(instance=instance, resources={"platform": platform}))


def request_of(outcome: Any) -> dg.RunRequest:
    assert isinstance(outcome, dg.SensorResult), outcome
    (request,) = outcome.run_requests or []
    return request


def reason(outcome: Any) -> str:
    assert isinstance(outcome, dg.SkipReason), outcome
    return str(outcome.skip_message)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    manual = ManualClock(NOW)
    monkeypatch.setattr(PlatformResource, "clock", property(lambda _self: manual))
    return manual


@pytest.fixture
def stopped_feed(
    platform: PlatformResource,
    clock: ManualClock,
    simulated_bars: pl.DataFrame,
    simulated_sessions: pl.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> PlatformResource:
    """A trading day with bars until half an hour ago; the fallback may be requested."""
    platform.lake.append("bars_landed", simulated_bars.filter(pl.col("bar_start") < STOPPED), batch_id="before")
    with platform.connect() as connection:
        register_instruments(connection, SYMBOLS, "XNYS", "test")
        save_sessions(connection, simulated_sessions)
    monkeypatch.setenv("FALLBACK_TO_YFINANCE", "true")
    monkeypatch.setenv("YFINANCE_MAX_ATTEMPTS", "1")
    return platform


@pytest.fixture
def yahoo(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> list[str]:
    """Yahoo with every minute of the session so far, each ten dollars; the symbols that it was asked for."""
    asked: list[str] = []

    def history(_self: YahooClient, request: BarRequest) -> pl.DataFrame:
        asked.append(request.symbol)
        starts = pl.datetime_range(OPENING, datetime.fromtimestamp(clock.now_us() / 1e6, UTC), "1m", eager=True)
        prices = dict.fromkeys(("open", "high", "low", "close", "volume"), 10.0)
        return (
            pl.DataFrame({"bar_start": starts})
            .select(pl.lit(request.symbol).alias("symbol"), "bar_start")
            .with_columns(**{name: pl.lit(value) for name, value in prices.items()})
        )

    monkeypatch.setattr(YahooClient, "history", history)
    return asked


@pytest.mark.requirement("ING-02", "MON-08")
def test_silent_queue_its_missing_minutes_come_from_yahoo_and_again_while_it_stays_silent(
    stopped_feed: PlatformResource, yahoo: list[str], clock: ManualClock, instance: dg.DagsterInstance
):
    request = request_of(look(stopped_feed, instance))
    assert request.tags["surveillance/reason"].endswith(
        "is silent although the market is open: requesting bars from Yahoo"
    )
    run_job("yahoo_fallback_job", stopped_feed, instance, tags=request.tags)
    assert sorted(yahoo) == sorted(SYMBOLS)
    after = stopped_feed.lake.read("bars_1m", days=(DAY, DAY)).filter(pl.col("bar_start") >= STOPPED)
    assert set(after["source"]) == {"yfinance"}
    assert after.height == 30 * len(SYMBOLS), "expected every minute that is over"
    assert stopped_feed.lake.read("features_core_v1", days=(DAY, DAY))["bar_start"].max() == after["bar_start"].max()
    assert stopped_feed.lake.read("scores", days=(DAY, DAY))["bar_start"].max() == after["bar_start"].max()

    clock.advance(300)
    later = request_of(look(stopped_feed, instance))
    assert later.run_key != request.run_key
    again = run_job("yahoo_fallback_job", stopped_feed, instance, tags=later.tags)
    assert metadata_of(again, "yahoo_bars")["dagster/row_count"] == 5 * len(SYMBOLS), (
        "expected only what is new to land"
    )
    with stopped_feed.connect() as connection:
        books = connection.execute(
            "SELECT rows_in, rows_landed, rows_dead, rows_duplicate FROM surveillance.ingestion_runs ORDER BY 1"
        ).fetchall()
    assert books == [(720, 720, 0, 0), (735, 15, 0, 720)]


def rate_limited() -> Exception:
    from yfinance.exceptions import YFRateLimitError

    return YFRateLimitError()


@pytest.mark.requirement("ING-02")
@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        (rate_limited, "rate_limited", "Yahoo refused MSFT for now"),
        (pl.DataFrame, "empty", "there are no bars of MSFT in this range"),
        (lambda: KeyError("Open"), "malformed", "Yahoo's answer for MSFT does not have the expected form"),
    ],
)
def test_yahoo_bars_of_a_symbol_that_fails_says_so_and_lands_the_others(
    stopped_feed: PlatformResource,
    yahoo: list[str],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    outcome: str,
    words: str,
):
    others = YahooClient.history

    def history(self: YahooClient, request: BarRequest) -> pl.DataFrame:
        given = answer() if request.symbol == "MSFT" else others(self, request)
        if isinstance(given, Exception):
            raise given
        return given

    monkeypatch.setattr(YahooClient, "history", history)
    result = run_job("yahoo_fallback_job", stopped_feed, instance, tags=request_of(look(stopped_feed, instance)).tags)
    shown = {record.data["symbol"]: record.data for record in metadata_of(result, "yahoo_bars")["outcomes"].records}
    assert {name: row["outcome"] for name, row in shown.items()} == {"AAPL": "ok", "MSFT": outcome, "SPY": "ok"}
    check = check_of(result, "yahoo_answers_for_every_gap")
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert words in str(check.description)
    assert words in str(shown["MSFT"]["reason"])
    landed = stopped_feed.lake.read("bars_landed").filter(pl.col("source") == "yfinance")
    assert set(landed["symbol"]) == {"AAPL", "SPY"}


def test_yahoo_bars_without_the_extra_warns_and_lets_the_run_go_on(
    stopped_feed: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "yfinance", None)
    result = run_job("market_data_job", stopped_feed, instance, tags=range_tags(DAY, DAY))
    check = check_of(result, "yahoo_answers_for_every_gap")
    assert not check.passed
    assert "install the extra `yahoo`" in str(check.description)


@pytest.mark.requirement("ING-02", "ING-03", "ENV-FALLBACK_TO_YFINANCE", "ENV-USE_SQS_DATA_SOURCE")
@pytest.mark.parametrize(
    ("use_queue", "fall_back", "expected"),
    [
        ("true", "true", "is silent although the market is open: requesting bars from Yahoo"),
        ("false", "true", "the queue is not read (USE_SQS_DATA_SOURCE is false): requesting bars from Yahoo"),
        ("true", "false", "; Yahoo is not requested because FALLBACK_TO_YFINANCE is false"),
    ],
)
def test_yahoo_fallback_sensor_in_an_open_market_follows_the_switches(
    stopped_feed: PlatformResource,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    use_queue: str,
    fall_back: str,
    expected: str,
):
    monkeypatch.setenv("USE_SQS_DATA_SOURCE", use_queue)
    monkeypatch.setenv("FALLBACK_TO_YFINANCE", fall_back)
    outcome = look(stopped_feed, instance)
    if fall_back == "false":
        assert expected in reason(outcome)
    else:
        request = request_of(outcome)
        assert expected in request.tags["surveillance/reason"]
        assert range_tags(DAY, DAY).items() <= request.tags.items()


@pytest.mark.requirement("ING-02", "ING-03")
def test_yahoo_fallback_sensor_with_messages_waiting_leaves_it_to_the_queue(
    stopped_feed: PlatformResource, instance: dg.DagsterInstance
):
    endpoints = stopped_feed.endpoints
    client = QueueClient(endpoints.sqs_endpoint_url, "us-east-1", endpoints.aws, endpoints.queue_urls[0])
    client.send([SendEntry("{}", "AAPL", "one")])
    assert reason(look(stopped_feed, instance)).endswith("answers and is not silent")


@pytest.mark.requirement("ING-02")
def test_yahoo_fallback_sensor_one_of_two_queues_out_of_reach_is_enough(
    stopped_feed: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    here = stopped_feed.endpoints.queue_urls[0]
    urls = [here, here.rsplit("/", 1)[0] + "/gone.fifo"]
    assert {queue_for_symbol(symbol, urls) for symbol in SYMBOLS} == set(urls)
    monkeypatch.setenv("SQS_QUEUE_URL", ",".join(urls))
    endpoints = stopped_feed.endpoints
    client = QueueClient(endpoints.sqs_endpoint_url, "us-east-1", endpoints.aws, here)
    client.send([SendEntry("{}", "AAPL", "one")])
    told = request_of(look(stopped_feed, instance)).tags["surveillance/reason"]
    assert "gone.fifo does not answer: requesting bars from Yahoo" in told
    assert "answers and is not silent" in told


def test_yahoo_fallback_sensor_market_of_an_unwatched_symbol_does_not_count(
    stopped_feed: PlatformResource, clock: ManualClock, instance: dg.DagsterInstance
):
    with stopped_feed.connect() as connection:
        register_instruments(connection, ("BTC-USD",), "24/7", "test")
        save_sessions(connection, build_sessions("24/7", DAY - timedelta(days=20), DAY + timedelta(days=20)))
    clock.advance(timedelta(hours=2, minutes=32).total_seconds())  # 21:02: New York has just closed
    assert isinstance(look(stopped_feed, instance), dg.SensorResult)
    clock.advance(timedelta(minutes=10).total_seconds())
    assert reason(look(stopped_feed, instance)) == "no market of SYMBOLS is open (AAPL, MSFT, SPY)"


def test_yahoo_fallback_sensor_without_sessions_asks_for_nothing(
    platform: PlatformResource, instance: dg.DagsterInstance
):
    assert "no trading sessions yet" in reason(look(platform, instance))
