"""The files of the embedded services and the identification of processes. Uses the standard library and psutil only.

<home>/services.json            running services: addresses and process ids; readable by the owner only
<home>/embedded/lock            held by the supervisor while it runs
<home>/embedded/holders/<pid>   one file per process that needs the services
<home>/embedded/postgres/       PostgreSQL's data folder
<home>/embedded/queue/          the queue server's saved state
<home>/embedded/queue_credentials.json  credentials that the queue server accepts
<home>/embedded/aws_config      endpoint and credentials of the queue server for a user's own client
<home>/logs/                    supervisor.log, postgres.log, queue.log
"""

import fcntl
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.embedded.private_folders import protect_home

_SAME_START_SECONDS: Final = 2.0
"""Tolerance for start times: they are derived from the boot time, which shifts by a second when the clock is set."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, identified by pid and start time (seconds since the epoch), because pids are reused."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Return the identity of a running process.

        Raises:
            psutil.NoSuchProcess: if no process has this pid.
        """
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """Return the process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def is_alive(self) -> bool:
        return self.process() is not None


@dataclass(frozen=True)
class ServiceHome:
    """The files of the embedded services below one SURVEILLANCE_HOME."""

    home: Path

    @property
    def record(self) -> Path:
        return self.home / "services.json"

    @property
    def embedded(self) -> Path:
        return self.home / "embedded"

    @property
    def lock(self) -> Path:
        return self.embedded / "lock"

    @property
    def holders(self) -> Path:
        return self.embedded / "holders"

    @property
    def postgres(self) -> Path:
        return self.embedded / "postgres"

    @property
    def queue(self) -> Path:
        return self.embedded / "queue"

    @property
    def queue_record(self) -> Path:
        return self.embedded / "queue.json"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def prepare(self) -> None:
        """Create the folders; only the owner of the home can access them.

        Raises:
            FileExistsError: if the home is a file.
            InvalidInputError: if a file has the name of one of its folders.
        """
        self.home.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.home, self.embedded, self.holders, self.logs, self.queue):
            try:
                folder.mkdir(mode=0o700, exist_ok=True)
            except FileExistsError as error:
                if folder == self.home:
                    raise
                raise InvalidInputError(
                    f"expected a folder at {folder}, found a file", remedy="move or delete the file"
                ) from error
        protect_home(self.home)

    def is_supervised(self) -> bool:
        """Return whether a supervisor of this home, and not of the home that it is a copy of, holds the lock."""
        try:
            with self.lock.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def register(self, pid: int) -> None:
        """Record that a process needs the services until it ends."""
        write_json(self.holders / str(pid), asdict(ProcessId.of(pid)))

    def unregister(self, pid: int) -> None:
        (self.holders / str(pid)).unlink(missing_ok=True)

    def live_holders(self) -> list[int]:
        """Return the running processes that need the services, and remove the records of those that have ended."""
        live = []
        for file in self.holders.glob("[0-9]*") if self.holders.is_dir() else ():
            recorded = read_json(file)
            if recorded is not None and ProcessId(**recorded).is_alive():
                live.append(int(file.name))
            else:
                file.unlink(missing_ok=True)
        return live


def write_json(path: Path, value: Any, *, replace: bool = True) -> None:
    """Write a value as ``write_text`` does."""
    write_text(path, json.dumps(value, indent=1), replace=replace)


def write_text(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file atomically, readable by its owner only.

    Raises:
        FileExistsError: if the file exists and must not be replaced.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # otherwise a power failure may leave an empty file
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)
    finally:  # after an interrupt, too
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any | None:
    """Return the value written by ``write_json``, or None if the file does not exist or is not JSON."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
