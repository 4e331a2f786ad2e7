"""The channel sensor, the delivery run and its check over a real database and a real Valkey."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from benchmarks.valkey import ValkeyProcess
from surveillance_pipelines.channels import SIDE_CHANNELS, SideChannel
from surveillance_pipelines.clock import SYSTEM_CLOCK, now
from surveillance_pipelines.definitions import defs
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.channel_sensor import output_channel_sensor
from surveillance_pipelines.defs.serving.checks import channel_check
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.lease import acquire, delivery_lease
from surveillance_pipelines.stores.outbox import record_failure
from surveillance_pipelines.transports.channels import OPENERS
from surveillance_pipelines_tests.defs.runs import metadata_of, run_job
from surveillance_pipelines_tests.stores.test_partitions import insert_output


@pytest.fixture
def streaming(platform: PlatformResource, valkey: ValkeyProcess, monkeypatch: pytest.MonkeyPatch) -> PlatformResource:
    """The platform with the channel redis, and runs that end as soon as nothing waits."""
    for name, value in (
        ("OUTPUT_CHANNELS", "sqs,redis"),
        ("REDIS_URL", valkey.url),
        ("REDIS_STREAM", "out"),
        ("DRAIN_IDLE_SECONDS", "0.3"),
    ):
        monkeypatch.setenv(name, value)
    return PlatformResource(env_file="")


def post(platform: PlatformResource, *names: str, minutes: int = 0) -> None:
    with connect(platform.endpoints.database_url, autocommit=True) as connection:
        for name in names:
            insert_output(connection, name, now(SYSTEM_CLOCK) - timedelta(minutes=minutes), published=False)


def look(platform: PlatformResource, instance: dg.DagsterInstance) -> Any:
    return output_channel_sensor(dg.build_sensor_context(instance=instance, resources={"platform": platform}))


def reason(outcome: Any) -> str:
    assert isinstance(outcome, dg.SkipReason), outcome
    return str(outcome.skip_message)


def requests(outcome: Any) -> list[dg.RunRequest]:
    assert isinstance(outcome, dg.SensorResult), outcome
    return list(outcome.run_requests or [])


@pytest.mark.requirement("ENV-REDIS_URL")
def test_delivery_job_fills_the_stream_and_logs_a_materialization(streaming, valkey, instance):
    post(streaming, "o1", "o2")
    result = run_job("delivery_job", streaming, instance)
    assert [entry["id"] for entry in valkey.entries("out")] == ["o1", "o2"]
    figures = metadata_of(result, "output_stream")
    assert (figures["new_messages"], figures["channel"], figures["pending"]) == (2, "redis", 0)
    (evaluated,) = result.get_asset_check_evaluations()
    assert evaluated.passed
    assert "no waiting messages" in str(evaluated.description)


def test_delivery_job_of_a_channel_that_is_not_listed_fails_in_words(platform, instance, capfd):
    assert not run_job("delivery_job", platform, instance, raise_on_error=False).success
    assert "expected a channel of OUTPUT_CHANNELS" in capfd.readouterr().err


def test_every_channel_is_opened_and_has_its_asset_and_check():
    graph = defs.resolve_asset_graph()
    assert list(OPENERS) == list(SIDE_CHANNELS)
    for channel in SIDE_CHANNELS.values():
        asset = dg.AssetKey(channel.asset)
        assert asset in graph.get_all_asset_keys()
        assert dg.AssetCheckKey(asset, channel.check) in graph.asset_check_keys


def test_check_of_a_new_row_has_its_names_and_reads_its_messages(platform, monkeypatch):
    row = SideChannel(required_settings=(), extra="redis", asset="output_topic", check="topic_gets_all")
    monkeypatch.setitem(SIDE_CHANNELS, "topic", row)
    monkeypatch.setenv("OUTPUT_CHANNELS", "sqs,topic")
    check = channel_check("topic")
    assert list(check.check_keys) == [dg.AssetCheckKey(dg.AssetKey("output_topic"), "topic_gets_all")]
    post(platform, "o1", minutes=2)
    found: Any = check(PlatformResource(env_file=""))
    assert not found.passed
    assert "channel topic: 1 waiting messages" in found.description


def test_sensor_without_side_channels_says_so(platform, instance):
    assert "OUTPUT_CHANNELS contains only sqs" in reason(look(platform, instance))


def test_sensor_requests_a_run_when_messages_wait_and_then_a_standby(streaming, instance):
    assert reason(look(streaming, instance)) == "channel redis: no waiting messages"
    post(streaming, "o1")
    (request,) = requests(look(streaming, instance))
    assert request.run_config["ops"]["deliver_outbox"]["config"]["channel"] == "redis"
    assert request.tags[QUEUE_TAG] == "delivery:redis"
    assert request.run_key is None
    with connect(streaming.endpoints.database_url, autocommit=True) as connection:
        assert acquire(connection, delivery_lease("redis"), holder="first", seconds=60) is not None
        assert len(requests(look(streaming, instance))) == 1, "a standby"
        acquire(connection, delivery_lease("redis"), holder="second", seconds=60, role="standby")
    assert reason(look(streaming, instance)) == "channel redis: served by first, 1 waiting messages"


def test_sensor_with_a_run_on_its_way_requests_none(streaming, instance):
    post(streaming, "o1")
    tags = {QUEUE_TAG: "delivery:redis"}
    instance.add_run(dg.DagsterRun(job_name="delivery_job", tags=tags, status=dg.DagsterRunStatus.STARTED))
    assert "served by a starting run" in reason(look(streaming, instance))


def test_sensor_waits_after_a_failed_run(streaming, instance):
    post(streaming, "o1")
    run = dg.DagsterRun(job_name="delivery_job", tags={QUEUE_TAG: "delivery:redis"}, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    instance.report_run_failed(run)
    assert "its last delivery run failed, the next attempt is in" in reason(look(streaming, instance))


def test_check_fails_once_a_message_has_waited_for_a_minute_and_names_the_error(streaming):
    post(streaming, "o1", minutes=2)
    with connect(streaming.endpoints.database_url, autocommit=True) as connection:
        record_failure(connection, ["q"], "redis", "refused: too large", failed_at=SYSTEM_CLOCK.now_us())
    found: Any = channel_check("redis")(streaming)
    assert not found.passed
    assert "channel redis: 1 waiting messages" in found.description
    assert "refused: too large" in found.description


def test_check_passes_where_the_channel_is_not_listed(platform):
    post(platform, "o1", minutes=2)
    found: Any = channel_check("redis")(platform)
    assert found.passed
