"""The queue sensor and the drain run over a real queue and a real database."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg
import polars as pl
import pytest
from botocore.exceptions import ClientError

from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.retries import FIRST_PAUSE_SECONDS
from surveillance_pipelines.defs.serving import runs
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG, queue_name, queue_tag
from surveillance_pipelines.defs.serving.runs import pause_left
from surveillance_pipelines.defs.serving.sensors import queue_sensor
from surveillance_pipelines.engine.symbol_state import REVISABLE_BARS
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.services.cloud_stores import MAX_RECEIVE_COUNT, ensure_queues
from surveillance_pipelines.stores import lease
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.transports.sqs import QueueClient
from surveillance_pipelines_tests.defs.runs import metadata_of, run_job
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, ticks


def client_of(platform: PlatformResource, queue_url: str) -> QueueClient:
    return QueueClient(platform.endpoints.sqs_endpoint_url, "us-east-1", platform.endpoints.aws, queue_url)


def feed(platform: PlatformResource, messages: Sequence[Tick | str]) -> None:
    bodies = [(text, "SPY") if isinstance(text, str) else (encode_tick(text), text.symbol) for text in messages]
    entries = [SendEntry(body, group, f"d{number}") for number, (body, group) in enumerate(bodies)]
    client_of(platform, platform.endpoints.queue_urls[0]).send(entries)


def look(platform: PlatformResource, instance: dg.DagsterInstance) -> Any:
    context = dg.build_sensor_context(instance=instance, resources={"platform": platform})
    return queue_sensor(10.0)(context)


def reason(outcome: Any) -> str:
    assert isinstance(outcome, dg.SkipReason), outcome
    return str(outcome.skip_message)


def failed_run(instance: dg.DagsterInstance, platform: PlatformResource) -> None:
    """Put a drain run that has just failed on record."""
    tags = {QUEUE_TAG: queue_tag(platform.endpoints.queue_urls[0])}
    run = dg.DagsterRun(job_name="drain_job", tags=tags, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    instance.report_run_failed(run)


@pytest.fixture
def impatient(platform: PlatformResource, monkeypatch: pytest.MonkeyPatch) -> PlatformResource:
    """The platform with a drain run that ends as soon as the queue is empty."""
    monkeypatch.setenv("DRAIN_IDLE_SECONDS", "0.5")
    monkeypatch.setenv("BAR_CLOSE_GRACE_SECONDS", "0")
    return platform


@pytest.mark.requirement("ING-01", "ING-07")
def test_drain_job_scores_a_queue_and_logs_batched_materializations(
    impatient: PlatformResource, landed: Lake, instance: dg.DagsterInstance
):
    sent = ticks(75, symbols=("AAPL", "MSFT"))
    feed(impatient, [*sent, "not json"])
    result = run_job("drain_job", impatient, instance)
    figures = metadata_of(result, "anomalies")
    assert "alert_status" in [column.name for column in figures["dagster/column_schema"].columns]
    assert figures["alerts_outside_training"] == 0  # the warm-up rules are not trained
    with impatient.connect() as connection:
        newest: Any = connection.execute("SELECT max(bar_start) FROM surveillance.anomalies").fetchone()
        ids = {row[0] for row in connection.execute("SELECT id FROM surveillance.anomalies")}
    latest = [record.data for record in figures["latest_alerts"].records]
    assert latest[0]["bar_start"] == f"{newest[0]:%Y-%m-%d %H:%M} UTC"
    assert {row["id"] for row in latest} <= ids
    assert f"surveillance alerts show {latest[0]['id'][:12]}" in figures["explain"]
    (observed, *_) = result.get_asset_observation_events()
    assert observed.asset_observation_data.asset_observation.asset_key == dg.AssetKey("market_queue")
    assert figures["since_start"]["scored"] + figures["since_start"].get("late", 0) == len(sent)
    assert figures["since_start"]["dead"] == 1
    assert {record.data["step"] for record in figures["latency"].records} >= {"process", "queue_to_queue"}
    published = client_of(impatient, impatient.endpoints.output_queue_url).depth()
    assert published.visible == metadata_of(result, "output_queue")["since_start"]["published"]
    assert client_of(impatient, impatient.endpoints.queue_urls[0]).depth().total == 0


@pytest.mark.requirement("ING-07")
def test_tick_too_late_for_the_live_lane_revises_its_bar_when_the_day_is_filled(
    impatient: PlatformResource, landed: Lake, instance: dg.DagsterInstance
):
    day = date(2024, 3, 5)
    feed(impatient, [*ticks(REVISABLE_BARS + 4, symbols=("AAPL",)), Tick("AAPL", 250.0, 100.0, OPEN + MINUTE // 2)])
    run_job("drain_job", impatient, instance)
    run_job("market_data_job", impatient, instance, tags=range_tags(day, day))
    first_minute = landed.read("bars_1m", days=(day, day), symbols=["AAPL"]).filter(pl.col("source") == "sqs").head(2)
    assert first_minute["bar_start"].n_unique() == 1
    assert first_minute["revision"].to_list() == [0, 1]
    assert first_minute["high"].to_list()[1] == 250.0 > first_minute["high"].to_list()[0]
    assert first_minute["trades"].to_list() == [3, 4]


@pytest.mark.requirement("ING-04")
def test_market_queue_sensor_with_messages_asks_for_a_drain_run(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance
):
    feed(platform, ticks(1))
    outcome = look(platform, instance)
    assert isinstance(outcome, dg.SensorResult)
    (request,) = outcome.run_requests or []
    url = platform.endpoints.queue_urls[0]
    assert request.run_config["ops"]["drain_queue"]["config"]["queue_url"] == url
    assert request.tags[QUEUE_TAG] == queue_tag(url)
    assert request.run_key is None, "a run key would keep a failed run from being started again"


def test_market_queue_sensor_with_a_run_in_progress_asks_for_none(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance
):
    feed(platform, ticks(1))
    tags = {QUEUE_TAG: queue_tag(platform.endpoints.queue_urls[0])}
    instance.add_run(dg.DagsterRun(job_name="drain_job", tags=tags, status=dg.DagsterRunStatus.STARTED))
    assert "is served by a starting run" in reason(look(platform, instance))


def test_market_queue_sensor_does_not_wait_for_a_run_that_was_killed_long_ago(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    """Dagster's books may say for minutes that it has started; the leases know better."""
    feed(platform, ticks(1))
    tags = {QUEUE_TAG: queue_tag(platform.endpoints.queue_urls[0])}
    instance.add_run(dg.DagsterRun(job_name="drain_job", tags=tags, status=dg.DagsterRunStatus.STARTED))
    monkeypatch.setattr(runs, "MAX_START_SECONDS", 0.0)
    outcome = look(platform, instance)
    assert isinstance(outcome, dg.SensorResult)
    assert len(outcome.run_requests or []) == 1
    instance.add_run(dg.DagsterRun(job_name="drain_job", tags=tags, status=dg.DagsterRunStatus.NOT_STARTED))
    assert "is served by a starting run" in reason(look(platform, instance))


def test_market_queue_sensor_starts_a_run_for_messages_that_a_dead_one_hid(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance
):
    with connect(platform.endpoints.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO ops.in_flight (queue_url, fencing, batch, receipts, received_at) VALUES (%s, 1, 1, %s, now())",
            (platform.endpoints.queue_urls[0], ["receipt"]),
        )
    outcome = look(platform, instance)
    assert isinstance(outcome, dg.SensorResult)
    assert len(outcome.run_requests or []) == 1
    hold(platform, "holder")
    assert "is served by holder-host:1;" in reason(look(platform, instance))


def hold(platform: PlatformResource, *roles: lease.Role) -> None:
    with connect(platform.endpoints.database_url, autocommit=True) as connection:
        for role in roles:
            url = platform.endpoints.queue_urls[0]
            lease.acquire(connection, url, holder=f"{role}-host:1", seconds=60, role=role)


def test_market_queue_sensor_with_a_busy_holder_asks_for_a_standby(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance
):
    feed(platform, ticks(1))
    hold(platform, "holder")
    outcome = look(platform, instance)
    assert isinstance(outcome, dg.SensorResult)
    assert len(outcome.run_requests or []) == 1


def test_market_queue_sensor_with_holder_and_standby_asks_for_none(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance
):
    feed(platform, ticks(1))
    hold(platform, "holder", "standby")
    assert "is served by holder-host:1, with standby-host:1 as standby" in reason(look(platform, instance))


def test_market_queue_sensor_between_two_holders_waits_for_the_standby(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance
):
    feed(platform, ticks(1))
    hold(platform, "standby")
    assert "is served by the standby standby-host:1, which is taking over" in reason(look(platform, instance))


@pytest.mark.parametrize("busy", [False, True])
def test_market_queue_sensor_with_an_idle_holder_or_without_standbys_asks_for_none(
    platform: PlatformResource,
    always_open: None,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    busy: bool,
):
    if busy:
        monkeypatch.setenv("DRAIN_STANDBY", "false")
        feed(platform, ticks(1))
    hold(platform, "holder")
    assert "is served by holder-host:1;" in reason(look(platform, instance))


def test_market_queue_sensor_on_an_empty_queue_says_since_when(
    impatient: PlatformResource,
    always_open: None,
    landed: Lake,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
):
    assert "is empty; no message yet; no fallback (FALLBACK_TO_YFINANCE is false)" in reason(look(impatient, instance))
    feed(impatient, ticks(1))
    run_job("drain_job", impatient, instance)
    monkeypatch.setenv("FALLBACK_TO_YFINANCE", "true")
    text = reason(look(impatient, instance))
    assert "last message " in text
    assert "Yahoo fallback after 300 s" in text


def test_market_queue_sensor_after_failures_waits_longer_each_time(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance
):
    feed(platform, ticks(1))
    failed_run(instance, platform)
    first = pause_left(instance, queue_tag(platform.endpoints.queue_urls[0]), platform.clock.now_us())
    assert "its last drain run failed, the next attempt is in" in reason(look(platform, instance))
    failed_run(instance, platform)
    second = pause_left(instance, queue_tag(platform.endpoints.queue_urls[0]), platform.clock.now_us())
    assert 0 < first <= FIRST_PAUSE_SECONDS < second <= 2 * FIRST_PAUSE_SECONDS


def test_market_queue_sensor_without_sessions_waits_for_reference_job(
    platform: PlatformResource, instance: dg.DagsterInstance
):
    feed(platform, ticks(1))
    assert reason(look(platform, instance)).startswith("no trading sessions yet; reference_job creates them")


@pytest.mark.requirement("ING-03", "ENV-USE_SQS_DATA_SOURCE")
def test_market_queue_sensor_switched_off_says_so(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("USE_SQS_DATA_SOURCE", "false")
    assert reason(look(platform, instance)) == "the queue is not read: USE_SQS_DATA_SOURCE is false"


def test_market_queue_sensor_out_of_reach_names_the_settings(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/000000000000/no_such_queue.fifo")
    text = reason(look(platform, instance))
    assert text.startswith("no_such_queue.fifo does not answer")
    assert text.endswith("check SQS_QUEUE_URL, SQS_ENDPOINT_URL and AWS_REGION")


def test_live_checks_job_evaluates_every_promise_of_the_live_lane(
    impatient: PlatformResource, always_open: None, instance: dg.DagsterInstance
):
    feed(impatient, ticks(1))
    run_job("drain_job", impatient, instance)
    result = run_job("live_checks_job", impatient, instance)
    passed = {event.check_name: event.passed for event in result.get_asset_check_evaluations()}
    assert {"every_message_is_accounted_for", "alerts_are_published", "dead_letters_are_few"} <= set(passed)
    assert {"compute_is_within_limit", "sqs_sets_no_message_aside"} <= set(passed)
    assert all(ok for name, ok in passed.items() if name != "compute_is_within_limit")


def out_of_reach(_: QueueClient) -> None:
    raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetQueueUrl")


def test_check_names_a_queue_of_which_sqs_has_set_messages_aside(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    plain = platform.endpoints.queue_urls[0]
    assert client_of(platform, plain).dead_letter_depth() is None
    monkeypatch.setenv("SQS_QUEUE_URL", plain.replace(".fifo", "_with_policy.fifo"))
    ensure_queues(platform.endpoints)
    feed(platform, ticks(1))
    client = client_of(platform, platform.endpoints.queue_urls[0])
    aside = client.dead_letter_depth()
    assert aside is not None
    assert aside.total == 0
    for _ in range(MAX_RECEIVE_COUNT + 1):
        client.receive(10, visibility_seconds=0)
    result = run_job("live_checks_job", platform, instance)
    (found,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "sqs_sets_no_message_aside"]
    assert not found.passed
    name = queue_name(platform.endpoints.queue_urls[0])
    said = f"{len(ticks(1))} messages are in the dead-letter queue of {name}: runs received them repeatedly"
    assert str(found.description).startswith(said)
    monkeypatch.setattr(QueueClient, "dead_letter_depth", out_of_reach)
    result = run_job("live_checks_job", platform, instance)
    (found,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "sqs_sets_no_message_aside"]
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert "sqs:GetQueueUrl and sqs:GetQueueAttributes are required" in str(found.description)


def test_drain_run_says_in_its_log_that_it_serves(
    impatient: PlatformResource, always_open: None, instance: dg.DagsterInstance
):
    feed(impatient, ticks(1))
    result = run_job("drain_job", impatient, instance)
    said = [record.user_message for record in instance.all_logs(result.run_id)]
    assert any("serves from now on with bundle warmup" in line for line in said)
