"""R6: outages of PostgreSQL, the queue and the disk while drain runs serve: ``python -m benchmarks.outages``.

A producer sends ticks of ten symbols, a consumer reads the output queue, one drain run serves and another stands by.
Each fault strikes at a seeded moment. At the end, every message must be scored, none late or set aside, and each row
must have arrived once. The rounds of one fault share a lane. ``--fault`` runs one of them and keeps the results of the
others. A full disk needs root, because it mounts a small file system.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from benchmarks.drain_processes import Runs, until, wait_for
from benchmarks.faulty_queue import Fault, FaultyQueue
from benchmarks.harness import COUNTS, counted
from benchmarks.kills import RATE, Traffic
from benchmarks.live_lane import Lane, make_lane, services
from surveillance_pipelines.clock import SYSTEM_CLOCK, to_datetime
from surveillance_pipelines.embedded.services import EmbeddedServices
from surveillance_pipelines.stores.database import connect

NAME: Final = "r6_outages"
GOAL_SECONDS: Final = 2.0
ROUNDS: Final = 20
DISK_FULL: Final = "disk full"
DISK_BYTES: Final = 1 << 30
_QUIET_SECONDS: Final = (1.0, 3.0)
_FILL_BYTES: Final = 1 << 16
_OUTCOMES: Final = "SELECT count(*) FROM ops.ledger"
_UNDELIVERED: Final = """
    SELECT 1 FROM ops.outbox LEFT JOIN ops.outbox_deliveries AS delivered USING (position)
    WHERE delivered.position IS NULL LIMIT 1
"""


@dataclass(frozen=True)
class Place:
    """The services and the lane of one fault.

    Attributes:
        queue: the proxy through which the drain runs call the queue server.
        folder: on the file system of the services and the drain runs.
    """

    found: EmbeddedServices
    lane: Lane
    queue: FaultyQueue
    folder: Path
    rng: random.Random


def crash_postgres(place: Place) -> None:
    """Kill a server process with SIGKILL: PostgreSQL ends all connections and recovers from its log."""
    with connect(place.found.server_url, autocommit=True) as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        SYSTEM_CLOCK.sleep(0.1)  # until the server has noticed it
        while True:  # until the server accepts connections again
            try:
                connect(place.found.server_url).close()
            except psycopg.OperationalError:
                SYSTEM_CLOCK.sleep(0.02)
            else:
                return


def freeze_postgres(place: Place) -> None:
    """Stop all processes of the server for 5, 13 or 60 s; the longest always covers the end of a minute."""
    postmaster = psutil.Process(place.found.postgres.pid)
    _freeze([postmaster, *postmaster.children(recursive=True)], place.rng.choice((5.0, 13.0, 60.0)))


def freeze_queue(place: Place) -> None:
    """Stop the queue server for 3 to 8 s; calls block and then succeed."""
    _freeze([psutil.Process(place.found.queue.pid)], place.rng.uniform(3.0, 8.0))


def exhaust_connections(place: Place) -> None:
    """End the runs' connections while others take all that the server allows, for 2 to 6 s."""
    with ExitStack() as stack:
        admin = stack.enter_context(connect(place.lane.endpoints.database_url, autocommit=True))
        _end_connections(admin)
        try:
            while True:
                stack.enter_context(connect(place.found.server_url))
        except psycopg.OperationalError:
            SYSTEM_CLOCK.sleep(place.rng.uniform(2.0, 6.0))


def refuse_writes(place: Place) -> None:
    """Let the database refuse all writes for 2 to 30 s, as a standby server or a full disk does."""
    with connect(place.lane.endpoints.database_url, autocommit=True) as admin:
        name = admin.info.dbname
        admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
        _end_connections(admin)
        SYSTEM_CLOCK.sleep(place.rng.choice((2.0, 10.0, 30.0)))
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())
        _end_connections(admin)


def fill_disk(place: Place) -> None:
    """Fill the file system of PostgreSQL, the queue server and the drain runs for 2 to 30 s."""
    ballast = place.folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(_FILL_BYTES))
    SYSTEM_CLOCK.sleep(place.rng.choice((2.0, 10.0, 30.0)))
    ballast.unlink()


def break_queue(fault: Fault) -> Callable[[Place], None]:
    """Return a fault of the runs' calls to the queue server, of 2 to 30 s."""
    return lambda place: place.queue.strike(fault, place.rng.choice((2.0, 10.0, 30.0)))


FAULTS: Final[dict[str, Callable[[Place], None]]] = {
    "PostgreSQL crashes": crash_postgres,
    "PostgreSQL frozen": freeze_postgres,
    "connections exhausted": exhaust_connections,
    "writes refused": refuse_writes,
    DISK_FULL: fill_disk,
    "queue frozen": freeze_queue,
    "queue refuses connections": break_queue("refused"),
    "queue returns 500": break_queue("errors"),
    "queue throttles": break_queue("throttled"),
    "queue slow": break_queue("slow"),
}


def prove(fault: str, rounds: int, seed: int) -> dict[str, Any]:
    """Let a fault strike ``rounds`` times; return the counts and the recovery times in seconds."""
    rng = random.Random(f"{fault} {seed}")
    with (
        _disk(small=fault == DISK_FULL) as parent,
        services(parent) as found,
        tempfile.TemporaryDirectory(dir=parent) as folder,
    ):
        lane = make_lane(found, Path(folder), None, publish_scores="all")
        queue = FaultyQueue(found.queue_endpoint, lane.settings.aws_region, lane.endpoints.aws, rng)
        place = Place(found, lane, queue, Path(folder), rng)
        behind_proxy = replace(lane, endpoints=replace(lane.endpoints, sqs_endpoint_url=queue.url))
        traffic, runs = Traffic(lane), Runs(behind_proxy, Path(folder), DRAIN_WINDOW_SECONDS="100000")
        seconds: list[float] = []
        with queue.running(), _ended(runs), traffic.running():
            first, second = runs.start(), runs.start()
            until(lambda: {runs.has("holder", one) or runs.has("standby", one) for one in (first, second)} == {True})
            for number in range(rounds):
                SYSTEM_CLOCK.sleep(place.rng.uniform(*_QUIET_SECONDS))
                FAULTS[fault](place)
                seconds.append(_recovery(lane))
                _ = runs.count(lane.endpoints.queue_urls[0]) < 2 and runs.start()  # as the sensor does
                print(f"  {fault}: {number + 1} of {rounds}, back after {seconds[-1]:.2f} s", flush=True)
            traffic.stop.set()
            if not wait_for(lambda: lane.query(_OUTCOMES)[0][0], traffic.sent, what="messages with an outcome"):
                raise RuntimeError(f"expected an outcome of {traffic.sent:,} messages, some have none")
            until(lambda: not lane.query(_UNDELIVERED))
        return _counts(lane, traffic, seconds, runs)


@contextmanager
def _disk(*, small: bool) -> Iterator[Path | None]:
    """Mount a file system of ``DISK_BYTES`` in memory for a ``with`` block; or do nothing."""
    if not small:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def _ended(runs: Runs) -> Iterator[None]:
    try:
        yield
    finally:
        runs.end()


def _recovery(lane: Lane) -> float:
    """Return the seconds until the next delivery to the output queue."""
    begin = SYSTEM_CLOCK.now_us()
    query = "SELECT min(delivered_at) FROM ops.outbox_deliveries WHERE delivered_at > %s"

    def is_back() -> bool:
        with contextlib.suppress(psycopg.OperationalError):  # the server starts
            return lane.query(query, to_datetime(begin))[0][0] is not None
        return False

    until(is_back)
    return (lane.query(query, to_datetime(begin))[0][0] - to_datetime(begin)).total_seconds()


def _counts(lane: Lane, traffic: Traffic, seconds: list[float], runs: Runs) -> dict[str, Any]:
    outcomes = dict(lane.query("SELECT outcome, count(*) FROM ops.ledger GROUP BY 1"))
    arrived = list({dedup_id: row_id for dedup_id, _, row_id in traffic.seen}.values())
    if (set_aside := lane.inputs[0].dead_letter_depth()) is None:
        raise RuntimeError("expected the input queue to have a dead-letter queue, it has none")
    for log in (failures := runs.failures()):
        print(f"a run failed: {log}", flush=True)
    posted = {row_id for (row_id,) in lane.query("SELECT id FROM ops.outbox")}
    return {
        "rounds": len(seconds),
        "sent": traffic.sent,
        **{name: outcomes.get(name, 0) for name in ("scored", "late", "dead", "duplicate")},
        "received_most": lane.query("SELECT coalesce(max(receive_count), 0) FROM ops.inbox")[0][0],
        "set_aside": set_aside.total,
        "rows_lost": len(posted - set(arrived)),
        "rows_repeated": len(arrived) - len(set(arrived)),
        "failed_runs": len(failures),
        "outages_reported": runs.logged("outage began"),
        "recovery_seconds": [round(value, 3) for value in seconds],
    }


def _freeze(processes: list[psutil.Process], seconds: float) -> None:
    for process in processes:
        process.suspend()
    SYSTEM_CLOCK.sleep(seconds)
    for process in processes:
        process.resume()


def _end_connections(connection: psycopg.Connection) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def is_sound(counts: dict[str, Any]) -> bool:
    """Return whether nothing was lost, late, refused or repeated, no run failed, and service came back in time."""
    losses = ("late", "dead", "duplicate", "set_aside", "rows_lost", "rows_repeated", "failed_runs")
    in_time = max(counts["recovery_seconds"], default=0.0) <= GOAL_SECONDS
    return counts["scored"] == counts["sent"] and not any(counts[name] for name in losses) and in_time


def sentence(fault: str, counts: dict[str, Any]) -> str:
    """Return the counts of a fault for the table."""
    seconds = counts["recovery_seconds"]
    back = f"back after median {statistics.median(seconds):.2f}, worst {max(seconds):.2f} s"
    names = (
        "sent", "scored", "late", "dead", "duplicate", "set_aside", "rows_lost", "rows_repeated", "failed_runs",
        "outages_reported",
    )  # fmt: skip
    listed = ", ".join(f"{counts[name]:,} {name.replace('_', ' ')}" for name in names)
    return f"{fault}, {counts['rounds']} times: {listed}; received at most {counts['received_most']} times; {back}"


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all goals are met, else 1."""
    parser = argparse.ArgumentParser(description="Break the services of drain runs again and again.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--fault", choices=list(FAULTS), help="only this one")
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    chosen = list(FAULTS) if options.fault is None else [options.fault]
    if DISK_FULL in chosen and os.geteuid() != 0:
        print(f"left out: {DISK_FULL}, because only root can mount the small file system that it fills")
        chosen.remove(DISK_FULL)
    path = options.result or COUNTS / f"{NAME}.json"
    proven = {fault: prove(fault, options.rounds, options.seed) for fault in chosen}
    kept = {} if options.fault is None or not path.exists() else json.loads(path.read_text())["figures"]
    figures = {fault: counts for fault, counts in (kept | proven).items() if fault in FAULTS}
    result = counted(
        NAME,
        work=f"{len(figures)} faults, {options.rounds} times each, beside {RATE:.0f} messages/s of ten symbols, a drain"
        f" run and a standby; seed {options.seed}",
        goal=f"sent = scored; no row lost or repeated, no run failed; next output ≤ {GOAL_SECONDS:g} s after a fault",
        found=[sentence(fault, counts) for fault, counts in figures.items()],
        met=len(figures) == len(FAULTS) and all(is_sound(counts) for counts in figures.values()),
        figures=figures,
        path=path,
    )
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
