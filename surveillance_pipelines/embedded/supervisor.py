"""The process that owns the embedded services of one home: ``python -m …storage.supervisor HOME``.

The command returns when the services are up, and leaves a process of its own behind, which no caller has to reap. One
per home: it holds a lock that the kernel releases however it dies. It takes over services that an earlier
supervisor left behind, starts what is missing, starts again what has died, publishes the addresses, and stops
everything when no holder has been alive for a few seconds, when it is told to (SIGTERM), or when its home is deleted.
"""

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
from surveillance_pipelines.embedded.postgres_server import PostgresServer, end
from surveillance_pipelines.embedded.queue_server import QueueServer
from surveillance_pipelines.embedded.service_home import ProcessId, ServiceHome, write_json

LINGER_SECONDS: Final = 5.0
"""Between two short commands typed one after the other the services stay."""
ALREADY_SUPERVISED: Final = 75
"""Exit code of a supervisor that finds another at work."""
FAILED: Final = "failed: "
"""Before the reason, at the beginning of the log's last line, when a supervisor gives up."""
_POLL_SECONDS: Final = 0.25
_END_SECONDS: Final = 5.0


class Supervisor:
    """Keeps the services of one home for as long as somebody needs them."""

    def __init__(self, home: ServiceHome, clock: Clock = SYSTEM_CLOCK) -> None:
        self._home = home
        self._self = ProcessId.of(os.getpid())
        self._clock = clock
        self._postgres = PostgresServer(home)
        self._queue = QueueServer(home)
        self._servers: set[ProcessId] = set()
        self._stopping = False

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until nobody needs the services, and return when both have stopped; ``on_ready`` is called once."""
        signal.signal(signal.SIGTERM, self._stop_soon)
        try:
            self._publish()
            on_ready()
            while not self._stopping and not self._nobody_left():
                self._wait_until_unused()
        finally:
            self._home.record.unlink(missing_ok=True)
            self._queue.stop()
            self._postgres.stop()
            for server in self._servers:  # in a home that was deleted, neither finds its own by its files
                end(server, (signal.SIGQUIT, signal.SIGKILL), _END_SECONDS)

    def _stop_soon(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _publish(self) -> None:
        self._servers.add((postgres := self._postgres.start()).process)
        self._servers.add((queue := self._queue.start()).process)
        record = {
            "supervisor": asdict(self._self),
            "postgres": asdict(postgres.process),
            "queue": asdict(queue.process),
            "server_url": postgres.url,
            "queue_endpoint": queue.url,
        }
        write_json(self._home.record, record)

    def _wait_until_unused(self) -> None:
        """Return when told to stop, or when no holder has been alive for a while; keep the services up until then."""
        last_seen = self._clock.now_us()
        while not self._stopping and self._clock.now_us() - last_seen < LINGER_SECONDS * MICROSECONDS:
            if not self._home.embedded.is_dir():
                self._stopping = True
                return
            if self._home.live_holders():
                last_seen = self._clock.now_us()
            if self._postgres.running() is None or self._queue.running() is None:
                print("a service has ended by itself; starting it again", flush=True)
                self._publish()
            self._clock.sleep(_POLL_SECONDS)

    def _nobody_left(self) -> bool:
        """Withdraw the addresses, then look once more for a holder.

        A process registers before it reads the addresses: either it finds them gone and starts anew, or it is seen
        here and they are published again.
        """
        self._home.record.unlink(missing_ok=True)
        if self._stopping or not self._home.live_holders():
            return True
        self._publish()
        return False


def main(home: Path) -> int:
    """Start the supervisor of a home and return 0 when its services are up, 75 at once if there is one already."""
    files = ServiceHome(home)
    files.prepare()
    with files.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ALREADY_SUPERVISED
        return _run_detached(files)


def _run_detached(home: ServiceHome) -> int:
    """Fork: the child supervises and keeps the lock, the parent waits for its word that the services are up."""
    reader, writer = os.pipe()
    if os.fork() > 0:
        os.close(writer)
        return 0 if os.read(reader, 1) else 1

    def tell_parent() -> None:
        os.write(writer, b"1")
        os.close(writer)

    os.close(reader)
    try:
        Supervisor(home).run(tell_parent)
    except Exception as error:  # noqa: BLE001 - whatever it is, the log is where the caller looks
        traceback.print_exc()
        print(FAILED + " ".join(str(error).split()), file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.exit(main(Path(sys.argv[1])))
