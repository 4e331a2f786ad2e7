"""The process that runs the embedded services of one home.

Start it with ``python -m surveillance_pipelines.embedded.supervisor HOME``.

The command returns when the services are ready and leaves a background process that no caller has to reap. There is one
supervisor per home, because it holds a lock that the kernel releases when the process ends for any reason. The
supervisor adopts services of an earlier supervisor, starts missing services, restarts failed ones and publishes the
addresses. It repeats a restart that fails, for example because the disk is full. It stops all services when no holder
has been running for a few seconds, on SIGTERM, or when its home is deleted.
"""

import contextlib
import fcntl
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock
from surveillance_pipelines.embedded.postgres_server import PostgresServer, terminate
from surveillance_pipelines.embedded.queue_server import QueueServer
from surveillance_pipelines.embedded.service_home import ProcessId, ServiceHome, write_json

LINGER_SECONDS: Final = 5.0
"""Time without a holder after which the services stop; they keep running between consecutive short commands."""
ALREADY_SUPERVISED: Final = 75
"""Exit code of a supervisor if another one is running."""
FAILED: Final = "failed: "
"""Prefix of the reason in the last line of the log when a supervisor fails."""
_POLL_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 1.0
"""Longest pause between attempts to start a service: users should not notice it after the cause is removed."""
_END_SECONDS: Final = 5.0


class Supervisor:
    """Keeps the services of one home running while there are holders."""

    def __init__(self, home: ServiceHome, clock: Clock = SYSTEM_CLOCK) -> None:
        self._home = home
        self._self = ProcessId.of(os.getpid())
        self._clock = clock
        self._postgres = PostgresServer(home)
        self._queue = QueueServer(home)
        self._servers: set[ProcessId] = set()
        self._stopping = False
        self._is_published = False
        self._pause = _POLL_SECONDS
        self._reason = ""

    def run(self, on_ready: Callable[[], None]) -> None:
        """Run the services until there is no holder, and return when both have stopped; call ``on_ready`` once."""
        signal.signal(signal.SIGTERM, self._stop_soon)
        try:
            self._publish()
            on_ready()
            while not self._stopping and not self._is_unused():
                self._wait_until_unused()
        finally:
            self._home.record.unlink(missing_ok=True)
            self._queue.stop()
            self._postgres.stop()
            for server in self._servers:  # if the home was deleted, the servers cannot be found by their files
                terminate(server, (signal.SIGQUIT, signal.SIGKILL), _END_SECONDS)

    def _stop_soon(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _publish(self) -> None:
        self._is_published = False
        self._servers.add((queue := self._queue.start()).process)
        self._servers.add((postgres := self._postgres.start()).process)
        record = {
            "supervisor": asdict(self._self),
            "postgres": asdict(postgres.process),
            "queue": asdict(queue.process),
            "server_url": postgres.url,
            "queue_endpoint": queue.url,
        }
        write_json(self._home.record, record)
        self._is_published = True

    def _wait_until_unused(self) -> None:
        """Keep the services running until a stop is requested or no holder has been running for a while."""
        last_seen = self._clock.now_us()
        while not self._stopping and self._clock.now_us() - last_seen < LINGER_SECONDS * MICROSECONDS:
            if not self._home.embedded.is_dir():
                self._stopping = True
                return
            if self._home.live_holders():
                last_seen = self._clock.now_us()
            try:
                self._require_published()
            except Exception as error:  # noqa: BLE001 (whatever fails, the other service keeps running)
                self._report_failure(error)
            self._clock.sleep(self._pause)

    def _require_published(self) -> None:
        """Start the services that have ended, and publish their addresses."""
        if self._is_published and self._postgres.running() is not None and self._queue.running() is not None:
            return
        self._publish()
        self._pause, self._reason = _POLL_SECONDS, ""
        _report("all services run again")

    def _report_failure(self, error: Exception) -> None:
        """Report a new reason, and wait for longer before the next attempt."""
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        if (reason := f"{type(error).__name__}: {error}") != self._reason:
            self._reason = reason
            _report(f"a service has ended and does not start, trying again: {error}")

    def _is_unused(self) -> bool:
        """Remove the published addresses, then check once more for a holder.

        A process registers as a holder before it reads the addresses. Either it does not find them and starts a
        supervisor, or this check finds the holder and publishes them again.
        """
        self._home.record.unlink(missing_ok=True)
        self._is_published = False
        return self._stopping or not self._home.live_holders()


def _report(line: str) -> None:
    """Write a line to the log, which may be on a full disk."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


def main(home: Path) -> int:
    """Start the supervisor of a home; return 0 when its services are ready, or 75 at once if one is running."""
    files = ServiceHome(home)
    files.prepare()
    with files.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ALREADY_SUPERVISED
        return _run_detached(files)


def _run_detached(home: ServiceHome) -> int:
    """Fork: the child supervises and keeps the lock; the parent waits until the child reports ready services."""
    reader, writer = os.pipe()
    if os.fork() > 0:
        os.close(writer)
        return 0 if os.read(reader, 1) else 1

    def notify_parent() -> None:
        os.write(writer, b"1")
        os.close(writer)

    os.close(reader)
    try:
        Supervisor(home).run(notify_parent)
    except Exception as error:  # noqa: BLE001 - the caller reads the reason from the log
        traceback.print_exc()
        print(FAILED + " ".join(str(error).split()), file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.exit(main(Path(sys.argv[1])))
