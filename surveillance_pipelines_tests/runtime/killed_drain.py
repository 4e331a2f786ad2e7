"""Drain runs that die by SIGKILL right after a named step, one after the other, and a last one that lives.

``python -m surveillance_pipelines_tests.runtime.killed_drain STEP …`` prints, per step, the signal that ended its run.
Each run is a process of its own, forked before any library has started a thread.
"""

import os
import signal
import sys
from collections.abc import Callable

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.runtime.drain import drain
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.settings import Settings

DIES_AT_OCCURRENCE = 2
HELD_SECONDS = 0.6
"""A run hides what is worked on for so long for ``SQS_VISIBILITY_TIMEOUT``; the next run must not wait for it."""


def main(steps: list[str]) -> int:
    for step in steps:
        _, status = os.waitpid(_start(_killer(step)), 0)
        sys.stdout.write(f"{step} {os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}\n")
        sys.stdout.flush()  # what is still in the buffer, the next child would have too, and print again
    _, status = os.waitpid(_start(lambda _: None), 0)
    return os.WEXITSTATUS(status)


def _start(after_step: Callable[[str], None]) -> int:
    child = os.fork()
    if child == 0:
        settings = Settings()
        endpoints = provision(settings)
        drain(endpoints, settings, endpoints.queue_urls[0], run_id="run-1", window_seconds=60, after_step=after_step)
        os._exit(0)
    return child


def _killer(step: str) -> Callable[[str], None]:
    seen: list[str] = []

    def kill(done: str) -> None:
        seen.append(done)
        if seen.count(step) == DIES_AT_OCCURRENCE:
            SYSTEM_CLOCK.sleep(HELD_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
