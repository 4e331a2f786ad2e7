"""Embedded services: found, or started, by any process of the project, and gone when the last one has.

A process that calls ``ensure_services`` becomes a *holder*: a file named after its pid and start time. A supervisor
(``storage/supervisor.py``), one per home, runs PostgreSQL and the local queue server and stops both a few seconds
after the last holder has died, however it died.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.settings import Settings

START_TIMEOUT_SECONDS: Final = 60.0
STOP_TIMEOUT_SECONDS: Final = 30.0


class EmbeddedServicesError(RuntimeError):
    """The embedded services could not be started; the message says what their logs say."""


@dataclass(frozen=True, slots=True)
class EmbeddedServices:
    """Where the services of a home listen: loopback only. ``pids`` are the supervisor, PostgreSQL and the queue."""

    supervisor: tuple[int, float]  # pid and start time, which together name a process for ever
    children: tuple[tuple[int, float], ...]
    postgres_port: int
    postgres_password: str
    queue_port: int

    @property
    def server_url(self) -> str:
        """URL of PostgreSQL's own database ``postgres``."""
        return f"postgresql://surveillance:{self.postgres_password}@127.0.0.1:{self.postgres_port}/postgres"

    @property
    def queue_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.queue_port}"


def ensure_services(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> EmbeddedServices:
    """Return the services of ``SURVEILLANCE_HOME``, started if they do not run; this process becomes a holder.

    Raises:
        EmbeddedServicesError: if they cannot be started.
    """
    home = settings.surveillance_home
    (home / "logs").mkdir(parents=True, exist_ok=True)
    with locked(home):
        _register_holder(home)
        # Others that want the services wait for the lock, so one supervisor is started, not several.
        return read_services(home) or _wait_until_ready(home, _spawn_supervisor(home), clock)


@contextmanager
def hold(settings: Settings) -> Iterator[EmbeddedServices]:
    """Keep the services running for a ``with`` block, and let them go at its end."""
    services = ensure_services(settings)
    try:
        yield services
    finally:
        release(settings)


def release(settings: Settings) -> None:
    """Stop being a holder; without any other the services end a few seconds later."""
    _holder_file(settings.surveillance_home, psutil.Process()).unlink(missing_ok=True)


def stop_services(settings: Settings) -> bool:
    """Stop the services of a home now, whoever holds them, and wait; return whether any ran."""
    home = settings.surveillance_home
    services = read_services(home)
    if services is None:
        return False
    supervisor = psutil.Process(services.supervisor[0])
    supervisor.terminate()
    psutil.wait_procs([supervisor], timeout=STOP_TIMEOUT_SECONDS)
    return True


def read_services(home: Path) -> EmbeddedServices | None:
    """Return what the supervisor of a home wrote, if that supervisor is alive."""
    services = last_services(home)
    return services if services is not None and is_alive(*services.supervisor) else None


def last_services(home: Path) -> EmbeddedServices | None:
    """Return what a supervisor of this home wrote and did not take back: it is alive, or was killed."""
    try:
        found = json.loads((home / "services.json").read_text())
    except FileNotFoundError:
        return None
    found["supervisor"] = tuple(found["supervisor"])
    found["children"] = tuple(tuple(child) for child in found["children"])
    return EmbeddedServices(**found)


def write_services(home: Path, services: EmbeddedServices) -> None:
    """Publish where the services listen; a reader sees the whole file or none. It holds a password: mode 600."""
    draft = home / "services.json.new"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(services)))
    draft.rename(home / "services.json")


def living_holders(home: Path) -> list[int]:
    """Return the pids of the holders that live, and forget the dead."""
    alive: list[int] = []
    for path in (home / "holders").glob("*-*"):
        pid, start_time = path.name.split("-")
        if is_alive(int(pid), float(start_time)):
            alive.append(int(pid))
        else:
            path.unlink(missing_ok=True)
    return alive


def is_alive(pid: int, start_time: float) -> bool:
    """Say whether the process of that pid is the one that started then, and not a later one or a zombie."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - start_time) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Take turns with every other process of a home: to start services, or to decide that nobody needs them."""
    with (home / "services.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def identity(pid: int) -> tuple[int, float]:
    """Return a living process's pid and start time."""
    return pid, psutil.Process(pid).create_time()


def _register_holder(home: Path) -> None:
    (home / "holders").mkdir(exist_ok=True)
    _holder_file(home, psutil.Process()).touch()


def _holder_file(home: Path, process: psutil.Process) -> Path:
    return home / "holders" / f"{process.pid}-{process.create_time()}"


def _spawn_supervisor(home: Path) -> subprocess.Popen[bytes]:
    # A session of its own: a ctrl-C in the terminal of one holder must not end the services of the others.
    with (home / "logs" / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "surveillance_pipelines.storage.supervisor", str(home)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip


def _wait_until_ready(home: Path, process: subprocess.Popen[bytes], clock: Clock) -> EmbeddedServices:
    waited = 0.0
    while waited < START_TIMEOUT_SECONDS:
        if (services := read_services(home)) is not None:
            return services
        if process.poll() is not None:
            break
        clock.sleep(0.05)
        waited += 0.05
    log = home / "logs" / "supervisor.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise EmbeddedServicesError(
        f"expected the embedded services of {home} within {START_TIMEOUT_SECONDS:.0f} s; their log {log} ends with:\n"
        f"{tail}\nSet DATABASE_URL and SQS_QUEUE_URL to use servers of your own."
    )
