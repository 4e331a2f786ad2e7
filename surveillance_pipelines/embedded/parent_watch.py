"""Processes of a home that Dagster starts: they hold the embedded services, and end with the command that needs them.

A command (`surveillance up`) starts Dagster's daemon and web server, these start code servers, and code servers start
run workers. The kernel ends the command's own children with it (``commands/tied_process.py``). All others would survive
the death of their parent: a code server waits for its runs, and a run serves until its window ends. Each of them
therefore checks its parent and the command once per second.
"""

import os
import signal
import threading
from pathlib import Path
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, Clock
from surveillance_pipelines.embedded.service_home import ProcessId, ServiceHome

COMMAND: Final = "SURVEILLANCE_COMMAND"
"""Environment variable: pid of the command to which a process belongs."""
HOLDS: Final = "SURVEILLANCE_HOLDS_SERVICES"
"""Environment variable: folder of the home whose embedded services a process holds; unset without any."""
CHECK_SECONDS: Final = 1.0
GRACE_SECONDS: Final = 45.0
"""Time to finish after SIGTERM, before SIGKILL: a drain run commits and publishes what it has received."""

_joined: set[int] = set()


def tie_to_command() -> None:
    """Hold the services of the home and watch the parent, once per process; do nothing outside of a command's children.

    Environment variables name the command and the home, because Dagster passes them on to every process that it starts.
    """
    command, pid = os.environ.get(COMMAND), os.getpid()
    if command is None or int(command) == pid or pid in _joined:
        return
    _joined.add(pid)
    if home := os.environ.get(HOLDS):
        ServiceHome(Path(home)).register(pid)
    watch = _Watch(os.getppid(), int(command))
    threading.Thread(target=watch.run, name="parent-watch", daemon=True).start()


class _Watch:
    """Ends this process when its parent or its command has ended."""

    def __init__(self, parent: int, command: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._parent = parent
        self._command = ProcessId.of(command) if _exists(command) else None
        self._clock = clock

    def run(self) -> None:
        while not self._is_alone():
            self._clock.sleep(CHECK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        end = self._clock.now_us() + round(GRACE_SECONDS * MICROSECONDS)
        while self._clock.now_us() < end:
            self._clock.sleep(CHECK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    def _is_alone(self) -> bool:
        return self._command is None or os.getppid() != self._parent or not _exists(self._command.pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
