"""Drain runs in separate processes, started like Dagster starts them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from benchmarks.harness import PINNED
from benchmarks.live_lane import Lane
from benchmarks.models import SYMBOLS
from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK
from surveillance_pipelines.services.endpoints import child_environment

LONGEST_WAIT: Final = 90.0
PROGRESS_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.2
FIRST_POLL_SECONDS: Final = 0.02
"""Until the count is above 0, so that the start of the work is seen exactly."""


class Runs:
    """Drain runs of a lane's queues.

    Args:
        lane: what they serve.
        folder: for their logs.
        knobs: environment of each, beside what the lane says.
    """

    def __init__(self, lane: Lane, folder: Path, **knobs: str) -> None:
        self._lane: Final = lane
        self._folder: Final = folder
        self._knobs: Final = knobs
        self._processes: Final[dict[str, subprocess.Popen[bytes]]] = {}
        self._queues: Final[dict[str, str]] = {}

    @property
    def started(self) -> int:
        return len(self._processes)

    def start(self, queue_url: str | None = None) -> str:
        """Start another run, of the first queue by default, and return its run id."""
        run_id = f"run-{len(self._processes)}"
        settings, endpoints = self._lane.settings, self._lane.endpoints
        url = self._queues[run_id] = queue_url or endpoints.queue_urls[0]
        environment = {
            **os.environ, **PINNED, **child_environment(endpoints), "SYMBOLS": ",".join(SYMBOLS),
            "PUBLISH_SCORES": settings.publish_scores, "SURVEILLANCE_HOME": str(settings.surveillance_home),
            "DRAIN_IDLE_SECONDS": "100000", "LOG_LEVEL": "INFO", **self._knobs,
        }  # fmt: skip
        command = [
            sys.executable, "-m", "surveillance_pipelines.services.drain", "--run-id", run_id, "--queue-url", url
        ]  # fmt: skip
        with (self._folder / f"{run_id}.log").open("wb") as log:
            self._processes[run_id] = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdout=subprocess.DEVNULL, stderr=log
            )
        return run_id

    def living(self) -> list[int]:
        """Return the process ids of the running processes."""
        return [process.pid for process in self._processes.values() if process.poll() is None]

    def process(self, run_id: str) -> psutil.Process:
        """Return the process of a run.

        Raises:
            psutil.NoSuchProcess: if it has ended.
        """
        return psutil.Process(self._processes[run_id].pid)

    def count(self, queue_url: str) -> int:
        """Return the number of running runs of a queue."""
        mine = (process for run_id, process in self._processes.items() if self._queues[run_id] == queue_url)
        return sum(process.poll() is None for process in mine)

    def has(self, role: str, run_id: str) -> bool:
        """Return whether a run holds its queue, or stands by.

        Raises:
            RuntimeError: if it has ended.
        """
        rows = self._lane.query(
            "SELECT 1 FROM ops.leases WHERE role = %s AND run_id = %s AND expires_at > clock_timestamp()", role, run_id
        )
        if not rows and self._processes[run_id].poll() is not None:
            log = (self._folder / f"{run_id}.log").read_text()[-2000:]
            raise RuntimeError(f"expected {run_id} to serve, it has ended with {self._processes[run_id].poll()}: {log}")
        return bool(rows)

    def kill(self, run_id: str) -> int:
        """Kill a run and return the time, microseconds since the epoch."""
        instant = SYSTEM_CLOCK.now_us()
        self._processes[run_id].send_signal(signal.SIGKILL)
        self._processes[run_id].wait()
        return instant

    def failures(self) -> list[str]:
        """Return the end of the log of each run that ended with an error."""
        ended = [run_id for run_id, process in self._processes.items() if process.poll() not in (None, 0)]
        return [(self._folder / f"{run_id}.log").read_text()[-2000:] for run_id in ended]

    def logged(self, text: str) -> int:
        """Return the number of log lines of all runs that contain a text."""
        return sum((self._folder / f"{run_id}.log").read_text().count(text) for run_id in self._processes)

    def end(self) -> None:
        """Stop the running processes and wait for them."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            process.wait(timeout=LONGEST_WAIT)


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds.

    Raises:
        RuntimeError: if it does not within ``LONGEST_WAIT`` seconds.
    """
    deadline = SYSTEM_CLOCK.now_us() + round(LONGEST_WAIT * MICROSECONDS)
    while not condition():
        if SYSTEM_CLOCK.now_us() > deadline:
            raise RuntimeError(f"expected it within {LONGEST_WAIT:.0f} s")
        SYSTEM_CLOCK.sleep(0.02)


def wait_for(count: Callable[[], int], wanted: int, *, what: str) -> bool:
    """Wait until a count is reached, and print it every ``PROGRESS_SECONDS``.

    Returns:
        Whether it was reached; False if it did not grow within ``LONGEST_WAIT`` seconds.
    """
    begin = shown = grown = SYSTEM_CLOCK.now_us()
    most = -1
    while (found := count()) < wanted:
        now = SYSTEM_CLOCK.now_us()
        if found > most:
            most, grown = found, now
        elif now - grown > LONGEST_WAIT * MICROSECONDS:
            return False
        if now - shown > PROGRESS_SECONDS * MICROSECONDS:
            shown = now
            print(f"  {what}: {found:,} of {wanted:,} after {(now - begin) / MICROSECONDS:.0f} s", flush=True)
        SYSTEM_CLOCK.sleep(POLL_SECONDS if found > 0 else FIRST_POLL_SECONDS)
    return True
