"""Delivery runs over a real PostgreSQL and a real Valkey: everything once, in order, whatever the channel does."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest
import structlog
from pydantic import SecretStr

from benchmarks.valkey import ValkeyProcess
from surveillance_pipelines.channels import SIDE_CHANNELS, SideChannel
from surveillance_pipelines.clock import SYSTEM_CLOCK, ManualClock
from surveillance_pipelines.contracts.errors import SurveillanceError
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.runtime.delivery import DeliveryReport, deliver
from surveillance_pipelines.runtime.delivery_loop import DeliveryLoop, DeliveryOptions
from surveillance_pipelines.runtime.meter import Meter
from surveillance_pipelines.services.endpoints import child_environment
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import Reconnector, connect
from surveillance_pipelines.stores.delivery_store import PostgresDeliveryStore
from surveillance_pipelines.stores.lease import LeaseLostError, acquire, delivery_lease, release
from surveillance_pipelines.stores.outbox import OutboxRow, undelivered, waiting
from surveillance_pipelines.transports.channels import OPENERS
from surveillance_pipelines.transports.publisher import ChannelDownError, Publisher, PublishError
from surveillance_pipelines.transports.redis_streams import STREAM_GUARANTEE, RedisStream

QUICK = DeliveryOptions(poll_seconds=0.01, first_pause_seconds=0.02, longest_pause_seconds=0.1)
WAIT = 30.0


@pytest.fixture
def quick(settings: Settings, valkey: ValkeyProcess) -> Iterator[Settings]:
    yield settings.model_copy(
        update={
            "output_channels": ("sqs", "redis"), "redis_url": SecretStr(valkey.url), "redis_stream": "out",
            "lease_seconds": 0.5, "drain_idle_seconds": 0.3,
        }
    )  # fmt: skip
    structlog.reset_defaults()


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    with connect(database_url, autocommit=True) as opened:
        yield opened


def post(database: psycopg.Connection, names: Sequence[str], queue_url: str = "q") -> None:
    for name in names:
        database.execute(
            "INSERT INTO ops.outbox (id, queue_url, group_id, row_type, body, created_at) "
            "VALUES (%s, %s, %s, 'anomaly', '{\"t_published\":null}', now())",
            (name, queue_url, name[0]),
        )


def numbered(count: int, groups: str = "abc") -> list[str]:
    return [f"{groups[number % len(groups)]}{number:04d}" for number in range(count)]


def run(quick: Settings, **options) -> DeliveryReport:
    return deliver(provision(quick), quick, "redis", **{"window_seconds": 30.0, "options": QUICK, **options})


def ids(valkey: ValkeyProcess) -> list[str]:
    return [entry["id"] for entry in valkey.entries("out")]


def until(condition: Callable[[], bool]) -> None:
    ends = SYSTEM_CLOCK.now_us() + WAIT * 1e6
    while not condition():
        assert SYSTEM_CLOCK.now_us() < ends, "it did not happen"
        SYSTEM_CLOCK.sleep(0.02)


def test_run_delivers_every_row_once_in_order_and_ends_when_nothing_waits(quick, valkey, database):
    names = numbered(250)
    post(database, names)
    report = run(quick)
    assert (report.stopped_by, report.totals["delivered"]) == ("idle", 250)
    assert ids(valkey) == names
    assert waiting(database, "redis").count == 0
    references = database.execute("SELECT reference FROM ops.outbox_deliveries ORDER BY position").fetchall()
    with valkey.client() as client:
        assert [reference for (reference,) in references] == [entry_id for entry_id, _ in client.xrange("out")]
    assert run(quick, window_seconds=0.2).totals.get("delivered", 0) == 0


def test_rows_of_all_queues_are_delivered_each_queue_in_order(quick, valkey, database):
    post(database, ["a1"], "one")
    post(database, ["b1"], "two")
    post(database, ["a2"], "one")
    run(quick)
    assert sorted(ids(valkey)) == ["a1", "a2", "b1"]
    assert [name for name in ids(valkey) if name[0] == "a"] == ["a1", "a2"]


def test_dead_channel_is_tried_until_it_is_back_and_gets_everything(quick, valkey, database):
    post(database, numbered(50))
    valkey.kill()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, quick)
        until(lambda: waiting(database, "redis").error is not None)
        assert "ConnectionError" in str(waiting(database, "redis").error)
        valkey.start()
        assert running.result(WAIT).totals["delivered"] == 50
    assert ids(valkey) == numbered(50)
    assert waiting(database, "redis").error is None


def test_frozen_channel_costs_no_lease_and_adds_nothing_twice(quick, valkey, database):
    """Calls take longer than a lease; the heartbeat has a thread of its own."""
    post(database, numbered(50))
    publisher = RedisStream(valkey.url, "out", 1000, timeout_seconds=1.0)
    valkey.freeze()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, quick, publisher=publisher)
        until(lambda: "Timeout" in str(waiting(database, "redis").error))
        valkey.thaw()
        report = running.result(WAIT)
    assert (report.stopped_by, report.totals["delivered"]) == ("idle", 50)
    assert ids(valkey) == numbered(50)


class Refusing:
    """A stream that refuses one id a number of times."""

    guarantee = STREAM_GUARANTEE

    def __init__(self, refused: str, times: int) -> None:
        self.sent: list[str] = []
        self._refused, self._left = refused, times

    def ping(self) -> None: ...

    def close(self) -> None: ...

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        names = [str(entry.dedup_id) for entry in entries]
        if self._refused not in names or self._left == 0:
            self.sent += names
            return names
        self._left -= 1
        group = self._refused[0]
        failures = {i: "too large" for i, name in enumerate(names) if name[0] == group and name >= self._refused}
        self.sent += [name for i, name in enumerate(names) if i not in failures]
        raise PublishError("refused", failures)


class Unresponsive:
    """A stream that does not respond to calls with one id, a number of times."""

    guarantee = STREAM_GUARANTEE

    def __init__(self, unanswered: str, times: int) -> None:
        self.sent: list[str] = []
        self._unanswered, self._left = unanswered, times

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        names = [str(entry.dedup_id) for entry in entries]
        if self._unanswered in names and self._left:
            self._left -= 1
            raise ChannelDownError("no answer")
        self.sent += names
        return names


class CountingStore(PostgresDeliveryStore):
    """The store of a run, which counts the reads of the outbox."""

    reads = 0

    def undelivered(self, queue_url: str, *, after: int, limit: int) -> Sequence[OutboxRow]:
        self.reads += 1
        return super().undelivered(queue_url, after=after, limit=limit)


def delivery_loop(database: psycopg.Connection, publisher: Publisher) -> tuple[DeliveryLoop, CountingStore]:
    lease = acquire(database, delivery_lease("redis"), holder="test", seconds=60)
    assert lease is not None
    store, clock = (
        CountingStore(Reconnector(lambda: database), Reconnector(lambda: database), lease, "redis"),
        ManualClock(datetime(2024, 3, 5, tzinfo=UTC)),
    )
    return DeliveryLoop(publisher=publisher, store=store, meter=Meter(), clock=clock, options=QUICK), store


def test_call_that_failed_for_one_queue_is_repeated_while_another_queue_is_empty(quick, database):
    post(database, ["a1"], "one")
    post(database, ["b1"], "two")
    publisher = Unresponsive("b1", times=2)
    report = run(quick, publisher=publisher, window_seconds=5.0)
    assert (report.stopped_by, report.totals) == ("idle", {"delivered": 2, "unanswered": 2})
    assert publisher.sent == ["a1", "b1"]


def test_rows_after_an_unanswered_call_wait_for_it(database):
    post(database, numbered(150))
    publisher = Unresponsive("a0000", times=1)
    loop, _ = delivery_loop(database, publisher)
    assert loop.run_once() == 0
    assert publisher.sent == []


def test_outbox_is_not_read_during_the_pause_of_an_outage_and_each_queue_once_after_it(database):
    post(database, ["a1"], "one")
    post(database, ["b1"], "two")
    loop, store = delivery_loop(database, Unresponsive("b1", times=2))
    clock = loop._clock
    assert loop.run_once() == 1, "queue one"
    assert loop.pause_seconds() == pytest.approx(QUICK.first_pause_seconds)
    reads = store.reads
    assert (loop.run_once(), store.reads) == (0, reads)
    clock.sleep(loop.pause_seconds())
    assert loop.pause_seconds() == QUICK.poll_seconds, "never zero"
    assert (loop.run_once(), store.reads) == (0, reads + 2)
    assert loop.pause_seconds() == pytest.approx(2 * QUICK.first_pause_seconds)
    clock.sleep(loop.pause_seconds())
    assert (loop.run_once(), loop.pending) == (1, 0)
    assert (loop.run_once(), loop.pause_seconds()) == (0, QUICK.poll_seconds)


def test_refused_row_holds_up_its_group_and_no_other(quick, database):
    names = numbered(30)
    post(database, names)
    publisher = Refusing("a0003", times=4)
    report = run(quick, publisher=publisher)
    assert report.totals["delivered"] == 30
    assert sorted(publisher.sent) == sorted(names)
    for group in "abc":
        assert [name for name in publisher.sent if name[0] == group] == [name for name in names if name[0] == group]
    assert publisher.sent.index("b0028") < publisher.sent.index("a0003")
    assert waiting(database, "redis").error is None


def test_run_that_follows_a_refusal_sends_only_what_is_missing(quick, database):
    names = numbered(9)
    post(database, names)
    first = Refusing("a0003", times=1000)
    run(quick, publisher=first, window_seconds=0.5)
    assert "too large" in str(waiting(database, "redis").error)
    second = Refusing("", times=0)
    run(quick, publisher=second)
    assert second.sent == ["a0003", "a0006"]


@pytest.mark.parametrize("channel", ["redis", "sqs", "kafka"])
def test_channel_without_delivery_runs_is_refused(settings, database, monkeypatch, capsys, channel):
    from surveillance_pipelines.services.delivery import main

    for name, value in child_environment(provision(settings)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OUTPUT_CHANNELS", "sqs")
    monkeypatch.setenv("REDIS_URL", "redis://localhost:1")
    post(database, ["a1"])
    assert main(["--channel", channel, "--window-seconds", "0.1"]) == 2
    assert f"OUTPUT_CHANNELS other than sqs, got '{channel}'" in capsys.readouterr().err
    assert database.execute("SELECT count(*) FROM ops.leases").fetchone() == (0,)


def test_channel_of_a_new_row_is_opened_and_served(settings, database, monkeypatch):
    row = SideChannel(required_settings=(), extra="redis", asset="output_topic", check="topic_gets_all")
    monkeypatch.setitem(SIDE_CHANNELS, "topic", row)
    listed = settings.model_copy(update={"output_channels": ("sqs", "topic"), "drain_idle_seconds": 0.1})
    post(database, ["a1"])
    with pytest.raises(SurveillanceError, match="expected a channel with a function that opens it"):
        deliver(provision(listed), listed, "topic")
    topic = Refusing("", times=0)
    monkeypatch.setitem(OPENERS, "topic", lambda _: topic)
    assert deliver(provision(listed), listed, "topic", window_seconds=30.0).totals == {"delivered": 1}
    assert topic.sent == ["a1"]


def test_run_whose_lease_was_taken_over_records_nothing(database, database_url):
    post(database, ["a1"])
    lease = acquire(database, delivery_lease("redis"), holder="old", seconds=60)
    assert lease is not None
    database.execute("UPDATE ops.leases SET fencing = fencing + 1")
    store = PostgresDeliveryStore(Reconnector(lambda: database), Reconnector(lambda: database), lease, "redis")
    loop = DeliveryLoop(
        publisher=Refusing("", 0), store=store, meter=Meter(), clock=SYSTEM_CLOCK, options=DeliveryOptions()
    )
    with pytest.raises(LeaseLostError, match="delivery:redis"):
        loop.run_once()
    assert [row.id for row in undelivered(database, "q", "redis")] == ["a1"]


def test_second_run_stands_by_and_follows(quick, valkey, database):
    held = acquire(database, delivery_lease("redis"), holder="first", seconds=600)
    assert held is not None
    post(database, ["a1"])
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(run, quick)
        until(lambda: database.execute("SELECT 1 FROM ops.leases WHERE role = 'standby'").fetchone() is not None)
        assert ids(valkey) == []
        release(database, held, ended="window")
        assert second.result(WAIT).totals["delivered"] == 1
    assert ids(valkey) == ["a1"]


def test_killed_run_loses_nothing_and_its_successor_repeats_no_id(quick, valkey, database, monkeypatch):
    """Killed while the channel is frozen, so with a call on its way."""
    for name, value in child_environment(provision(quick)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OUTPUT_CHANNELS", "sqs,redis")
    monkeypatch.setenv("REDIS_URL", valkey.url)
    monkeypatch.setenv("REDIS_STREAM", "out")
    monkeypatch.setenv("LEASE_SECONDS", "0.5")
    command = [sys.executable, "-m", "surveillance_pipelines.services.delivery", "--channel", "redis"]
    child = subprocess.Popen([*command, "--run-id", "killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: database.execute("SELECT 1 FROM ops.leases WHERE run_id = 'killed'").fetchone() is not None)
    post(database, numbered(40))
    until(lambda: len(ids(valkey)) > 0)
    valkey.freeze()
    post(database, numbered(40, "xyz"))
    SYSTEM_CLOCK.sleep(0.3)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    valkey.thaw()
    report = run(quick)
    assert report.stopped_by == "idle"
    assert ids(valkey) == numbered(40) + numbered(40, "xyz")


def test_command_line_delivers_and_prints_the_report(quick, valkey, database, monkeypatch, capsys):
    from surveillance_pipelines.services.delivery import main

    for name, value in child_environment(provision(quick)).items():
        monkeypatch.setenv(name, value)
    for name, value in (("OUTPUT_CHANNELS", "sqs,redis"), ("REDIS_URL", valkey.url), ("REDIS_STREAM", "out")):
        monkeypatch.setenv(name, value)
    post(database, ["a1"])
    assert main(["--channel", "redis", "--window-seconds", "0.5"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["totals"], report["stopped_by"]) == ({"delivered": 1}, "window")
