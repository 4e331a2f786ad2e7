"""Child processes of a command. Each writes to a log file and is stopped together with its descendants."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import psutil

from surveillance_pipelines.contracts.errors import OperationFailedError, extra_remedy

_GRACE_SECONDS: Final = 20.0
_TIED: Final = (sys.executable, "-m", "surveillance_pipelines.commands.tied_process")


class Child:
    """A process in a separate session with its output in a file. It ends when this process ends, even if killed."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_TIED, str(os.getpid()), *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code; None while the process runs."""
        return self._process.poll()

    def check_alive(self) -> None:
        """Raise ``OperationFailedError`` with the end of the log if the process has ended."""
        if self.exit_code is not None:
            raise OperationFailedError(
                f"{self.name} ended with exit code {self.exit_code}:\n{self.tail()}", remedy=f"read {self.log}"
            )

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def activity(self) -> tuple[int, int]:
        """Return the size of the log and the whole CPU seconds of the process and its descendants.

        A process that makes progress changes one of them.
        """
        return self.log.stat().st_size, int(sum(map(_cpu_seconds, [self.pid, *_pids(_descendants(self.pid))])))

    def listens(self, port: int) -> bool:
        """Return whether the process or a descendant accepts connections on a TCP port."""
        return any(port in _listening_ports(process) for process in _family(self.pid))

    def wait(self, timeout: float | None = None) -> int:
        return self._process.wait(timeout)

    def stop(self, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Terminate the process, kill it after the grace period, then end its remaining descendants."""
        descendants = _descendants(self.pid) if self.exit_code is None else []
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        _end(descendants)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants."""
    try:
        return [psutil.Process(pid), *_descendants(pid)]
    except psutil.NoSuchProcess:
        return []


def _listening_ports(process: psutil.Process) -> set[int]:
    try:
        found = process.net_connections(kind="tcp")
    except psutil.Error:
        return set()
    return {connection.laddr.port for connection in found if connection.status == psutil.CONN_LISTEN}


def _pids(processes: Sequence[psutil.Process]) -> list[int]:
    return [process.pid for process in processes]


def _cpu_seconds(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def _end(processes: Sequence[psutil.Process]) -> None:
    # Code servers exit by themselves after their daemon ends; give them a moment before the signal.
    _, left = psutil.wait_procs(processes, timeout=3)
    for process in left:
        _signal(process, signal.SIGTERM)
    _, left = psutil.wait_procs(left, timeout=5)
    for process in left:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=5)


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into ``KeyboardInterrupt``, so that a command stops its children on these signals too."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def script(name: str) -> str:
    """Return the path of a console script in the folder of the running interpreter."""
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise OperationFailedError(
            f"expected {path.name} in {path.parent}, found none",
            remedy=extra_remedy("all"),
        )
    return str(path)


def path_with_scripts() -> str:
    """Return PATH with the interpreter's folder first, so that a child can start `dbt` by name."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
