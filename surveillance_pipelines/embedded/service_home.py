"""Where the embedded services keep their files, and how processes are recognised again. Standard library and psutil.

<home>/services.json            what runs now: addresses and process ids; readable by the owner only
<home>/embedded/lock            held by the supervisor while it lives
<home>/embedded/holders/<pid>   one file per process that needs the services
<home>/embedded/postgres/       PostgreSQL's data folder
<home>/embedded/queue/          the queue server's saved state
<home>/logs/                    supervisor.log, postgres.log, queue.log
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

_SAME_START_SECONDS: Final = 2.0
"""A start time derives from the boot time, which moves by a second when the machine's clock is set."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told apart from a later one with the same number by its start time (seconds since the epoch)."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Return the identity of a running process.

        Raises:
            psutil.NoSuchProcess: if there is none with this number.
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
    def logs(self) -> Path:
        return self.home / "logs"

    def prepare(self) -> None:
        """Create the folders. What is secret in them has its own permissions: PostgreSQL's account must pass."""
        for folder in (self.home, self.embedded, self.holders, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.queue.mkdir(mode=0o700, exist_ok=True)

    def register(self, pid: int) -> None:
        """Say that a process needs the services for as long as it lives."""
        write_json(self.holders / str(pid), asdict(ProcessId.of(pid)))

    def unregister(self, pid: int) -> None:
        (self.holders / str(pid)).unlink(missing_ok=True)

    def live_holders(self) -> list[int]:
        """Return the processes that need the services now, and forget those that have ended."""
        live = []
        for file in self.holders.glob("[0-9]*") if self.holders.is_dir() else ():
            recorded = read_json(file)
            if recorded is not None and ProcessId(**recorded).is_alive():
                live.append(int(file.name))
            else:
                file.unlink(missing_ok=True)
        return live


def write_json(path: Path, value: Any) -> None:
    """Write a file that a reader sees whole or not at all, readable by its owner only."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name with nothing behind it
        Path(temporary).replace(path)
    except BaseException:  # an interrupt, too, leaves no scratch file behind; raised again
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any | None:
    """Return what ``write_json`` wrote, or None when the file does not exist or holds something else."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
