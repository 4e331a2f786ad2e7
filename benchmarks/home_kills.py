"""Kills of the processes of a running home at seeded moments: part of R7 (``benchmarks/homes.py``)."""

import random
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.home_under_test import Home, running, wait_until
from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.stores.database import connect, with_database

_TICKS: Final = 20
_END_SECONDS: Final = 90.0
_SERVE_SECONDS: Final = 300.0
_MINUTE: Final = 60.0
_STARTED: Final = "SELECT run_id, pipeline_name FROM runs WHERE status IN ('STARTED', 'STARTING')"
_SCORED: Final = "SELECT count(*) FROM ops.ledger"
_LEASE: Final = "SELECT run_id FROM ops.leases WHERE role = 'holder' AND expires_at > clock_timestamp()"


@dataclass(frozen=True)
class Kill:
    """One kind of kill.

    Attributes:
        name: name in the table.
        command: part of the command line of the processes; empty for `up` itself.
        number: the signal.
        ends: whether `up` ends with them.
    """

    name: str
    command: str
    number: signal.Signals
    ends: bool


KILLS: Final = (
    Kill("SIGTERM of up", "", signal.SIGTERM, ends=True),
    Kill("SIGKILL of up", "", signal.SIGKILL, ends=True),
    Kill("SIGKILL of the daemon", "dagster-daemon run", signal.SIGKILL, ends=True),
    Kill("SIGKILL of the web server", "dagster-webserver", signal.SIGKILL, ends=True),
    Kill("SIGKILL of the code servers", "api grpc", signal.SIGKILL, ends=False),
    Kill("SIGKILL of the run workers", "spawn_main", signal.SIGKILL, ends=False),
    Kill("SIGKILL of PostgreSQL", "/bin/postgres", signal.SIGKILL, ends=False),
    Kill("SIGKILL of the queue server", "queue_process", signal.SIGKILL, ends=False),
    Kill("SIGKILL of everything", "*", signal.SIGKILL, ends=True),
)


def kill_case(base: Home, kill: Kill, moments: random.Random, scratch: Path) -> tuple[str, str, bool]:
    """Kill, look for orphans if `up` has ended, start it again, and wait until the queue is served."""
    home = base.copy(scratch / "home")
    try:
        return _killed(home, kill, moments)
    finally:
        home.end_all()


def _killed(home: Home, kill: Kill, moments: random.Random) -> tuple[str, str, bool]:
    home.send(_TICKS)
    with running(home, "up") as up:
        if wait_until(lambda: home.rows(_LEASE), _SERVE_SECONDS) is None:
            return f"no run served before the kill; `up` ended with {up.poll()}", "", False
        wait_until(lambda: home.rows(_SCORED)[0][0] >= _TICKS, _MINUTE)
        SYSTEM_CLOCK.sleep(moments.uniform(0.0, 10.0))
        active, scored = _active(home), home.rows(_SCORED)[0][0]
        _send_signal(home, kill, up.pid)
        orphans: list[str] = []
        if kill.ends:
            up.communicate(timeout=_END_SECONDS)
            wait_until(lambda: not _dagster(home), _END_SECONDS)
            orphans = _dagster(home)
            with running(home, "up"):
                return _after(home, kill, active, orphans, scored)
        return _after(home, kill, active, orphans, scored)


def _after(
    home: Home, kill: Kill, active: Mapping[str, str], orphans: Sequence[str], scored: int
) -> tuple[str, str, bool]:
    ready = wait_until(lambda: home.send(_TICKS) is None, _END_SECONDS)
    served = wait_until(lambda: home.rows(_SCORED)[0][0] >= scored + _TICKS, _SERVE_SECONDS)
    cleared = wait_until(lambda: not _dead(home, kill, active), _MINUTE)
    dead = "none" if cleared is not None else ", ".join(_dead(home, kill, active).values())
    state = f"{len(orphans)} orphans; served again after {_seconds(served)}; dead runs STARTED a minute later: {dead}"
    passed = not orphans and None not in (ready, served, cleared)
    return state, f"orphans: {', '.join(orphans)[:150]}" if orphans else "nothing else", passed


def _dead(home: Home, kill: Kill, active: Mapping[str, str]) -> dict[str, str]:
    """Return the runs, by id, that were active at the kill, are still STARTED, and cannot be alive.

    After a kill that ends `up`, none can be alive. After another one, a drain run is alive if it has a lease; other
    runs are not judged.
    """
    living = {run_id for (run_id,) in home.rows("SELECT run_id FROM ops.leases WHERE expires_at > clock_timestamp()")}
    left = {run_id: job for run_id, job in _active(home).items() if run_id in active}
    return {run_id: job for run_id, job in left.items() if kill.ends or (job == "drain_job" and run_id not in living)}


def _send_signal(home: Home, kill: Kill, up: int) -> None:
    if not kill.command:
        psutil.Process(up).send_signal(kill.number)
        return
    for process in home.processes():
        if kill.command == "*" or kill.command in " ".join(process.cmdline()):
            process.send_signal(kill.number)


def _active(home: Home) -> dict[str, str]:
    """Return run id → job of the active runs."""
    url = with_database(Platform(home.settings).endpoints.database_url, "dagster")
    with connect(url, autocommit=True) as connection:
        return dict(connection.execute(_STARTED).fetchall())


def _dagster(home: Home) -> list[str]:
    """Return the command lines of the home's processes, except for the embedded services, which stop when unused."""
    found = [" ".join(process.cmdline()) for process in home.processes()]
    services = ("embedded.supervisor", "/bin/postgres", "queue_process", "postgres:")
    return [line[:80] for line in found if line and not any(name in line for name in services)]


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} s"
