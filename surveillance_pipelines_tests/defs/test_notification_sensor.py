"""The sensor of notifications over a real instance, database, queue and HTTP receiver."""

import json
from collections.abc import Iterator

import dagster as dg
import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK, now
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.defs.notifications import notification_sensor
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.services import notifications
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.lease import acquire
from surveillance_pipelines_tests.defs.test_run_records import evaluate, run
from surveillance_pipelines_tests.services.receivers import SECRET, HttpReceiver, http_receiver


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


@pytest.fixture
def notified(platform: PlatformResource, receiver: HttpReceiver, monkeypatch) -> PlatformResource:
    """The platform with the receiver, and no pause between messages."""
    monkeypatch.setenv("NOTIFY_URLS", receiver.url)
    monkeypatch.setenv("NOTIFY_MIN_INTERVAL_SECONDS", "0.001")
    return platform


class Sensor:
    """Evaluates the sensor as the daemon does: with the cursor of the evaluation before."""

    def __init__(self, platform: PlatformResource, instance: dg.DagsterInstance) -> None:
        self.platform, self.instance, self.cursor = platform, instance, ""

    def evaluate(self) -> str:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"platform": self.platform}
        )
        result = notification_sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor or ""
        return str(result.skip_reason.skip_message if result.skip_reason else "")


def post_incident(platform: PlatformResource, id_: str, status: str = "opened", severity: str = "medium") -> None:
    row = {"type": "incident", "kind": "volume_spike", "symbol": "AAPL", "bar_start": "2026-03-02T14:30:00Z",
           "price": 189.5, "score": 0.97, "incident_id": id_, "incident_status": status,
           "severity": severity}  # fmt: skip
    with connect(platform.endpoints.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO ops.outbox (id, queue_url, group_id, row_type, body, created_at) "
            "VALUES (%s, %s, 'AAPL', 'incident', %s, %s)",
            (f"{id_}:{status}", platform.endpoints.queue_urls[0], json.dumps(row), now(SYSTEM_CLOCK)),
        )


def test_sensor_without_receivers_sends_nothing_and_keeps_no_position(platform, receiver, instance, monkeypatch):
    monkeypatch.delenv("NOTIFY_URLS", raising=False)
    sensor = Sensor(platform, instance)
    run(instance, fails=True)
    assert sensor.evaluate() == "notifications are off: NOTIFY_URLS is not set"
    assert (sensor.cursor, receiver.attempts) == ("", 0)


def test_sensor_sends_each_kind_of_event_once(notified, receiver, instance):
    sensor = Sensor(notified, instance)
    run(instance, fails=True)
    post_incident(notified, "past")
    evaluate(instance, fresh=False, sound=True)
    assert sensor.evaluate() == "no new event of failed_run, red_check, alert, queue_not_served"
    assert receiver.attempts == 0, "events before the first evaluation are not news"
    run_id = run(instance, fails=True)
    run(instance, fails=False)
    post_incident(notified, "a1")
    post_incident(notified, "a1", "confirmed")
    post_incident(notified, "a1", "updated", "high")
    post_incident(notified, "a1", "closed", "high")
    post_incident(notified, "a2", "retracted")
    evaluate(instance, fresh=True, sound=False)
    assert sensor.evaluate() == "sent 4 events to receiver 1 (json) in one message"
    found = "volume_spike AAPL at 2026-03-02T14:30:00Z, price 189.5, score 0.97; `surveillance incidents show a1`"
    error = "work: ValueError: expected a market at postgresql://user:[redacted]@host/db,"
    assert receiver.messages[0]["message"].splitlines() == [
        "1 failed run, 1 red check, 2 alerts",
        f"failed run: fragile_job {run_id[:8]}: {error}",
        "red check: a: sound: no description",
        f"incident (medium): {found}",
        f"incident (high): {found}",
    ]
    evaluate(instance, fresh=True, sound=False)
    assert sensor.evaluate() == "no new event of failed_run, red_check, alert, queue_not_served"
    assert len(receiver.messages) == 1


@pytest.mark.requirement("MON-07")
@pytest.mark.parametrize(
    ("asset", "check"), [("champion", "champion_can_serve"), ("features_core_v2", "features_do_not_drift")]
)
def test_failed_check_of_a_model_reaches_the_receiver(notified, receiver, instance, asset, check):
    sensor = Sensor(notified, instance)
    sensor.evaluate()
    evaluation = dg.AssetCheckEvaluation(
        check_name=check, asset_key=dg.AssetKey(asset), passed=False, severity=dg.AssetCheckSeverity.WARN,
        description="expected another distribution",
    )  # fmt: skip
    instance.report_runless_asset_event(evaluation)
    assert sensor.evaluate() == "sent 1 event to receiver 1 (json) in one message"
    assert f"red check: {asset}: {check}: expected another distribution" in receiver.messages[0]["message"]


def test_fifty_failed_runs_are_one_message(notified, receiver, instance):
    sensor = Sensor(notified, instance)
    sensor.evaluate()
    for _ in range(50):
        broken = dg.DagsterRun(job_name="training_job", status=dg.DagsterRunStatus.STARTED)
        instance.add_run(broken)
        instance.report_run_failed(broken, "out of memory")
    assert sensor.evaluate() == "sent 50 events to receiver 1 (json) in one message"
    sensor.evaluate()
    assert receiver.titles == ["surveillance, tenant default: 50 events"]
    assert "training_job" in receiver.messages[0]["message"]


def test_sensor_reports_a_queue_that_no_run_serves(notified, receiver, instance, monkeypatch):
    monkeypatch.setattr(notifications, "UNSERVED_SECONDS", 0.2)
    monkeypatch.setenv("NOTIFY_ON", "queue_not_served")
    sensor = Sensor(notified, instance)
    url = notified.endpoints.queue_urls[0]
    notified.queue(url).send([SendEntry("{}", "AAPL", "1")])
    assert sensor.evaluate() == "no new event of queue_not_served"
    SYSTEM_CLOCK.sleep(0.3)
    assert sensor.evaluate() == "sent 1 event to receiver 1 (json) in one message"
    assert "1 messages, 0 unsent alerts and 0 bars to close wait" in receiver.messages[0]["message"]
    with notified.connect(autocommit=True) as connection:
        acquire(connection, url, holder="host:1", seconds=60)
    sensor.evaluate()
    assert json.loads(sensor.cursor)["unserved"] == {}
    assert len(receiver.messages) == 1


def test_kind_that_is_switched_on_later_sends_no_past_event(notified, receiver, instance, monkeypatch):
    monkeypatch.setenv("NOTIFY_ON", "alert")
    sensor = Sensor(notified, instance)
    sensor.evaluate()
    run(instance, fails=True)
    assert sensor.evaluate() == "no new event of alert"
    monkeypatch.setenv("NOTIFY_ON", "alert,failed_run")
    assert sensor.evaluate() == "no new event of alert, failed_run"
    assert receiver.attempts == 0


def test_receiver_that_refuses_does_not_fail_the_sensor_and_is_named(notified, receiver, instance):
    sensor = Sensor(notified, instance)
    sensor.evaluate()
    receiver.status = 500
    run(instance, fails=True)
    reason = sensor.evaluate()
    assert "receiver 1 (json) failed once" in reason
    assert "the receiver answered with status 500; 1 event waits" in reason
    assert SECRET not in reason + sensor.cursor


def test_source_that_cannot_be_read_stops_no_other(notified, receiver, instance, monkeypatch):
    sensor = Sensor(notified, instance)
    sensor.evaluate()
    with notified.connect() as connection:
        connection.execute("ALTER TABLE ops.outbox RENAME TO outbox_elsewhere")
    run(instance, fails=True)
    reason = sensor.evaluate()
    assert reason.startswith("sent 1 event to receiver 1 (json) in one message; alert could not be read: ")
    assert len(receiver.messages) == 1
