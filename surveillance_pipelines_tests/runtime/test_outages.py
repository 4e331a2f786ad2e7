"""Drain runs while the database or the queue is unavailable, over real services."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from botocore.exceptions import ClientError

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, ManualClock, to_datetime
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.runtime.meter import DrainReport
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.runtime.service_outages import START_OUTAGE_SECONDS, await_services, is_outage
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.transports.sqs import QueueClient
from surveillance_pipelines_tests.engine.market import OPEN, stream
from surveillance_pipelines_tests.live_lane_fixtures import LiveLane

MESSAGES = stream(6)
_DELIVERED = "SELECT position FROM ops.outbox_deliveries WHERE channel = 'sqs'"
_DISCONNECT = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def until(condition: Callable[[], bool]) -> None:
    ends = SYSTEM_CLOCK.now_us() + 60_000_000
    while not condition():
        assert SYSTEM_CLOCK.now_us() < ends, "it did not happen within a minute"
        SYSTEM_CLOCK.sleep(0.05)


@pytest.fixture
def drained(live_lane: LiveLane) -> Iterator[Callable[[], Future[DrainReport]]]:
    """Return a function that starts a drain run in the background."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda: pool.submit(live_lane.drain, window_seconds=60.0)


def send(lane: LiveLane, messages: list[Any]) -> None:
    lane.inputs.send([SendEntry(m.body, m.group_id, m.dedup_id) for m in messages])


def received_once(lane: LiveLane) -> bool:
    return lane.column("SELECT count(*) FROM ops.ledger WHERE outcome = 'scored'") == [len(MESSAGES)]


@pytest.mark.requirement("BEY-02")
def test_drain_run_survives_the_loss_of_all_its_connections(live_lane, drained):
    send(live_lane, MESSAGES[:20])
    run = drained()
    until(lambda: live_lane.outcomes().get("scored", 0) > 0)
    for start in range(20, len(MESSAGES), 10):
        live_lane.query(_DISCONNECT)
        send(live_lane, MESSAGES[start : start + 10])
    report = run.result(120)
    assert report.stopped_by == "idle"
    assert received_once(live_lane)
    bodies = live_lane.wire()
    assert len(bodies) == live_lane.column("SELECT count(*) FROM ops.outbox")[0]


@pytest.mark.requirement("BEY-02")
def test_drain_run_waits_while_the_database_accepts_no_writes(live_lane, drained):
    (database,) = live_lane.column("SELECT current_database()")
    send(live_lane, MESSAGES[:20])
    run = drained()
    until(lambda: live_lane.outcomes().get("scored", 0) == 20)
    with live_lane.connect() as connection:
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on".encode())
    try:
        live_lane.query(_DISCONNECT)
        send(live_lane, MESSAGES[20:])
        SYSTEM_CLOCK.sleep(2.0)
        assert not run.done(), "an outage does not end a run"
        assert live_lane.outcomes() == {"scored": 20}
    finally:
        with live_lane.connect() as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only".encode())
    live_lane.query(_DISCONNECT)
    assert run.result(120).stopped_by == "idle"
    assert received_once(live_lane)


@pytest.mark.requirement("BEY-02")
def test_drain_run_survives_errors_of_the_queue(live_lane, drained, monkeypatch):
    failures = iter(range(6))
    poll = QueueClient.poll

    def refuse_some(self: QueueClient, *args: Any, **options: Any) -> Any:
        if next(failures, None) is not None:
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "ReceiveMessage")
        return poll(self, *args, **options)

    monkeypatch.setattr(QueueClient, "poll", refuse_some)
    send(live_lane, MESSAGES)
    assert drained().result(120).stopped_by == "idle"
    assert received_once(live_lane)


def test_failed_receive_is_repeated_only_once_the_queue_answers(live_lane, drained, monkeypatch):
    calls: list[str] = []
    poll, probe = QueueClient.poll, QueueClient.probe
    failure = ClientError({"Error": {"Code": "InternalFailure"}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "call")

    def lose_the_first_answer(self: QueueClient, *args: Any, **options: Any) -> Any:
        calls.append("receive")
        answer = poll(self, *args, **options)
        if calls.count("receive") == 1:
            raise failure
        return answer

    def fail_three_times(self: QueueClient) -> None:
        calls.append("probe")
        if calls.count("probe") <= 3:
            raise failure
        probe(self)

    monkeypatch.setattr(QueueClient, "poll", lose_the_first_answer)
    monkeypatch.setattr(QueueClient, "probe", fail_three_times)
    send(live_lane, MESSAGES)
    assert drained().result(120).stopped_by == "idle"
    assert calls[:6] == ["receive", "probe", "probe", "probe", "probe", "receive"]
    assert received_once(live_lane)


def test_deliveries_that_a_crash_of_the_server_lost_are_recorded_again(live_lane, drained):
    send(live_lane, MESSAGES[:20])
    run = drained()
    until(lambda: live_lane.outcomes().get("scored", 0) == 20)
    until(lambda: len(live_lane.column(_DELIVERED)) >= 20)
    live_lane.query("WITH lost AS (DELETE FROM ops.outbox_deliveries RETURNING 1) SELECT count(*) FROM lost")
    live_lane.query(_DISCONNECT)
    send(live_lane, MESSAGES[20:])
    assert run.result(120).stopped_by == "idle"
    assert len(live_lane.column(_DELIVERED)) == live_lane.column("SELECT count(*) FROM ops.outbox")[0]


def test_outage_is_reported_once_and_ends_with_the_first_answer():
    answers: Iterator[bool] = iter([False, False, True])
    said: list[str] = []

    def call() -> str:
        if not next(answers):
            raise ConnectionError("refused")
        return "answer"

    outages = Outages(ManualClock(to_datetime(OPEN)), is_outage=lambda _: True, on_status=said.append)
    assert outages.repeat("database", call) == "answer"
    assert len(said) == 2
    assert "the database is unavailable (refused)" in said[0]


def test_run_that_starts_during_an_outage_waits_for_the_services():
    clock = ManualClock(to_datetime(OPEN))
    answers_at = OPEN + round((START_OUTAGE_SECONDS - 1) * MICROSECONDS)

    def provision() -> str:
        if clock.now_us() < answers_at:
            raise psycopg.OperationalError("connection timeout expired")
        return "endpoints"

    assert await_services(provision, clock) == "endpoints"
    answers_at = clock.now_us() + round((START_OUTAGE_SECONDS + 1) * MICROSECONDS)
    with pytest.raises(psycopg.OperationalError):
        await_services(provision, clock)


def test_outage_past_the_end_of_the_run_is_raised():
    outages = Outages(ManualClock(to_datetime(OPEN)), is_outage=lambda _: True, gives_up=lambda: True)

    def call() -> None:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError):
        outages.repeat("input queue", call)


def test_call_with_a_refused_password_is_not_repeated(database_url):
    parts, calls = urlsplit(database_url), 0
    wrong = urlunsplit(parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}"))

    def call() -> None:
        nonlocal calls
        calls += 1
        connect(str(wrong))

    outages = Outages(ManualClock(to_datetime(OPEN)), is_outage=is_outage)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        outages.repeat("database", call)
    assert calls == 1
    assert not outages.is_ongoing
