"""Who serves a queue next, over a real database and with real drain runs."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.runtime.standby import Contender, contend
from surveillance_pipelines.services.endpoints import child_environment
from surveillance_pipelines.stores import lease as leases
from surveillance_pipelines.stores.database import Reconnector
from surveillance_pipelines.stores.lease import Lease
from surveillance_pipelines_tests.engine.market import stream

WAIT = 20.0  # at most


@pytest.fixture
def rival(live_lane) -> Iterator[Callable[..., Future[Any]]]:
    """Return a function that lets a run contend for the queue in the background, until the test is over."""
    stops: list[threading.Event] = []

    def contends(*, stands_by: bool = True, check: Callable[[], None] = lambda: None) -> Future[Any]:
        stops.append(threading.Event())
        contender = Contender(
            lease_name=live_lane.queue_url,
            run_id=f"run-{len(stops)}",
            lease_seconds=0.4,
            stands_by=stands_by,
            clock=SYSTEM_CLOCK,
            stop=stops[-1],
            check=check,
        )

        def run() -> Any:
            with Reconnector(live_lane.connect) as link:
                return contend(link, contender)

        return pool.submit(run)

    with ThreadPoolExecutor(4) as pool:
        yield contends
        for stop in stops:
            stop.set()


def until(condition: Callable[[], bool]) -> None:
    ends = SYSTEM_CLOCK.now_us() + WAIT * 1e6
    while not condition():
        assert SYSTEM_CLOCK.now_us() < ends, "it did not happen"
        SYSTEM_CLOCK.sleep(0.01)


def standby_of(live_lane) -> list[Any]:
    return live_lane.column("SELECT run_id FROM ops.leases WHERE role = 'standby' AND expires_at > clock_timestamp()")


def hold(live_lane, seconds: float = 60.0) -> Lease:
    with live_lane.connect() as connection:
        lease = leases.acquire(connection, live_lane.queue_url, holder="first", seconds=seconds)
    assert lease is not None
    return lease


def test_free_queue_is_served_at_once(rival):
    lease = rival().result(WAIT)
    assert (lease.role, lease.fencing) == ("holder", 1)


def test_standby_waits_for_a_living_holder_and_follows_it(live_lane, rival):
    held, renewals = hold(live_lane), set()
    standby = rival()

    def has_renewed_its_place() -> bool:
        renewals.update(live_lane.column("SELECT heartbeat_at FROM ops.leases WHERE role = 'standby'"))
        return len(renewals) > 2

    until(has_renewed_its_place)
    assert not standby.done()
    with live_lane.connect() as connection:
        leases.release(connection, held, ended="window")
    assert standby.result(WAIT).fencing == held.fencing + 1
    assert standby_of(live_lane) == []


def test_standby_takes_over_from_a_holder_that_fell_silent(live_lane, rival):
    hold(live_lane, seconds=0.5)
    assert rival().result(WAIT).fencing == 2


def test_standby_that_could_not_serve_ends_and_makes_room(live_lane, rival):
    hold(live_lane)
    broken = threading.Event()

    def check() -> None:
        if broken.is_set():
            raise ConnectionError("the watch for promotions has lost its connection")

    standby = rival(check=check)
    until(lambda: bool(standby_of(live_lane)))
    broken.set()
    with pytest.raises(ConnectionError, match="has lost its connection"):
        standby.result(WAIT)
    assert standby_of(live_lane) == []


def test_standby_ends_with_a_holder_that_had_no_work(live_lane, rival):
    held = hold(live_lane)
    standby = rival()
    until(lambda: standby_of(live_lane) == ["run-1"])
    with live_lane.connect() as connection:
        leases.release(connection, held, ended="idle")
    assert standby.result(WAIT) == "idle"


def test_only_one_run_stands_by(live_lane, rival):
    hold(live_lane)
    first = rival()
    until(lambda: standby_of(live_lane) == ["run-1"])
    assert rival().result(WAIT) == "lease_held"
    assert not first.done()


def test_run_that_may_not_stand_by_waits_as_long_as_a_dead_runs_lease_lasts(live_lane, rival):
    hold(live_lane)
    assert rival(stands_by=False).result(WAIT) == "lease_held"
    assert standby_of(live_lane) == []


def start_drain(live_lane, window_seconds: float) -> subprocess.Popen:
    lane = live_lane.settings
    environment = {
        "LEASE_SECONDS": "0.5", "SQS_VISIBILITY_TIMEOUT": "60", "DRAIN_IDLE_SECONDS": "2", "PUBLISH_SCORES": "all",
        "BAR_CLOSE_GRACE_SECONDS": "0", "SYMBOLS": ",".join(lane.symbols), **child_environment(live_lane.endpoints),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "surveillance_pipelines.services.drain",
        "--queue-url", live_lane.queue_url, "--window-seconds", str(window_seconds),
    ]  # fmt: skip
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_standby_serves_what_a_killed_run_held(live_lane):
    messages = stream(60)
    live_lane.send(messages)
    first = start_drain(live_lane, 600)
    until(lambda: len(live_lane.column("SELECT 1 FROM ops.ledger LIMIT 20")) == 20)
    standby = start_drain(live_lane, 600)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    out, err = standby.communicate(timeout=60)
    assert standby.returncode == 0, err[-2000:]
    assert json.loads(out)["stopped_by"] == "idle"
    assert live_lane.outcomes() == {"scored": len(messages)}, err
    assert live_lane.inputs.depth().total == 0
    assert live_lane.column("SELECT count(*) FROM ops.in_flight") == [0]
    assert {row.id for row in live_lane.replayed().outputs} == set(live_lane.column("SELECT id FROM ops.outbox"))
