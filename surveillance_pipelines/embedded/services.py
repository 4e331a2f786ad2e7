"""Embedded services: started by the first process that needs them, stopped after the last one has ended.

A process that calls ``ensure_services`` is a *holder* until it ends, for whatever reason. A supervisor
(``embedded/supervisor.py``), one per home, runs PostgreSQL and the queue server and stops both a few seconds after the
last holder has ended.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines.embedded.postgres_server import PostgresServer, fatal_line, terminate
from surveillance_pipelines.embedded.queue_credentials import queue_credentials
from surveillance_pipelines.embedded.queue_server import QueueServer
from surveillance_pipelines.embedded.relocation import settle
from surveillance_pipelines.embedded.service_home import ProcessId, ServiceHome, read_json, write_json
from surveillance_pipelines.embedded.supervisor import ALREADY_SUPERVISED, FAILED
from surveillance_pipelines.settings import Settings

_START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 60.0


class EmbeddedServicesError(
    SurveillanceError,
    code=ErrorCode.UNAVAILABLE,
    remedy="read the logs in the folder above, or set DATABASE_URL and SQS_QUEUE_URL to your own servers",
):
    """The embedded services could not be started; the message contains the reason."""


@dataclass(frozen=True, slots=True)
class EmbeddedServices:
    """Addresses (loopback only) and processes of the services of a home.

    Attributes:
        server_url: URL of PostgreSQL's database ``postgres``, with a password; the role may create databases.
        queue_endpoint: endpoint URL of SQS and S3.
        queue_credentials: the only credentials that the queue server accepts.
    """

    supervisor: ProcessId
    postgres: ProcessId
    queue: ProcessId
    server_url: str = field(repr=False)
    queue_endpoint: str
    queue_credentials: AwsCredentials

    @property
    def are_alive(self) -> bool:
        return all(process.is_alive() for process in (self.supervisor, self.postgres, self.queue))


def ensure_services(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> EmbeddedServices:
    """Return the services of ``SURVEILLANCE_HOME``, and start them if necessary. This process becomes a holder.

    Raises:
        EmbeddedServicesError: if the services do not start.
    """
    home = ServiceHome(settings.surveillance_home)
    home.prepare()
    settle(home)
    home.register(os.getpid())
    deadline = clock.now_us() + round(_START_SECONDS * MICROSECONDS)
    reason = f"no supervisor published their addresses within {_START_SECONDS:.0f} s"
    while clock.now_us() < deadline:
        if (services := read_services(home.home)) is not None:
            return services
        code, log = _start_supervisor(home)
        if code not in (0, ALREADY_SUPERVISED):
            reason = _reason(log)
            break
        clock.sleep(0.05)
    raise EmbeddedServicesError(
        f"expected the embedded services of {home.home} to start, got: {reason} (logs: {home.logs})"
    )


@contextmanager
def hold(settings: Settings) -> Iterator[EmbeddedServices]:
    """Keep the services running for a ``with`` block."""
    services = ensure_services(settings)
    try:
        yield services
    finally:
        release(settings)


def release(settings: Settings) -> None:
    """Unregister this process as a holder; without another holder, the services stop a few seconds later."""
    ServiceHome(settings.surveillance_home).unregister(os.getpid())


def stop_services(settings: Settings) -> bool:
    """Stop the services of a home, even if they are in use, and wait; return whether any service was running.

    Services of a killed supervisor are stopped too.
    """
    home = ServiceHome(settings.surveillance_home)
    services = _recorded(home) if home.is_supervised() else None
    if services is not None:
        terminate(services.supervisor, (signal.SIGTERM, signal.SIGKILL), _STOP_SECONDS)
    left = [server for server in (QueueServer(home), PostgresServer(home)) if server.running() is not None]
    for server in left:
        server.stop()
    home.record.unlink(missing_ok=True)
    return services is not None or bool(left)


def read_services(home: Path) -> EmbeddedServices | None:
    """Return the services of a home if they and their supervisor are running.

    The supervisor of a home holds its lock. In a copy of the home, the records name processes of the original.
    """
    files = ServiceHome(home)
    services = _recorded(files)
    return services if services is not None and services.are_alive and files.is_supervised() else None


def is_prepared(home: Path, services: EmbeddedServices, revision: str) -> bool:
    """Return whether these running services have the databases, tables and queues of a schema revision."""
    return read_json(_preparation(home)) == _fingerprint(services, revision)


def record_prepared(home: Path, services: EmbeddedServices, revision: str) -> None:
    """Record that these services are prepared, so that the next process can skip the check."""
    write_json(_preparation(home), _fingerprint(services, revision))


def _preparation(home: Path) -> Path:
    return ServiceHome(home).embedded / "prepared.json"


def _fingerprint(services: EmbeddedServices, revision: str) -> dict[str, Any]:
    servers = {"postgres": asdict(services.postgres), "queue": asdict(services.queue)}
    return {**servers, "migration": revision}


def _recorded(home: ServiceHome) -> EmbeddedServices | None:
    found: dict[str, Any] | None = read_json(home.record)
    if found is None:
        return None
    processes = {name: ProcessId(**found.pop(name)) for name in ("supervisor", "postgres", "queue")}
    return EmbeddedServices(**processes, **found, queue_credentials=queue_credentials(home))


def _start_supervisor(home: ServiceHome) -> tuple[int, str]:
    """Return the exit code of the supervisor's command and the log lines that it added."""
    path = home.logs / "supervisor.log"
    # In a new session, so that ctrl-C in the terminal of one holder does not stop the services of others.
    with path.open("ab") as log:
        before = log.tell()
        code = subprocess.run(
            [sys.executable, "-m", "surveillance_pipelines.embedded.supervisor", str(home.home)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, check=False,
        ).returncode  # fmt: skip
    return code, path.read_bytes()[before:].decode(errors="replace")


def _reason(log: str) -> str:
    lines = log.splitlines()
    named = [line.removeprefix(FAILED) for line in lines if line.startswith(FAILED)]
    return named[-1] if named else fatal_line(lines)
