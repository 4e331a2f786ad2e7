"""Drain runs of the upgrade proof, and a producer that waits for each burst to be done before it sends the next."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.upgrade_feed import OPENING, SYMBOLS, Burst
from benchmarks.upgrade_home import LOG_TAIL, Platform
from benchmarks.upgrade_release import UpgradeError

_LOOK_SECONDS: Final = 0.004
_LONGEST_WAIT: Final = 120.0
_LONGEST_START: Final = 600.0
"""A run compiles the feature kernel before it serves, if its source tree never did: half a minute on an idle core."""


class Drain:
    """One drain run in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process: Final = process
        self._log: Final = log

    def check_alive(self) -> None:
        """Raise an ``UpgradeError`` with the end of the log if the run has ended."""
        if (code := self._process.poll()) is not None:
            raise self._unexpected("to serve", code)

    def wait_killed(self) -> None:
        """Wait until SIGKILL has ended the run."""
        if (code := self._process.wait(_LONGEST_WAIT)) != -signal.SIGKILL:
            raise self._unexpected("to be killed", code)

    def stop(self) -> None:
        """Send SIGTERM and wait until the run has finished everything that it received."""
        self.check_alive()
        self._process.terminate()
        if (code := self._process.wait(_LONGEST_WAIT)) != 0:
            raise self._unexpected("to end with 0", code)

    def kill(self) -> None:
        """Kill the run if it is still running."""
        self._process.kill()
        self._process.wait()

    def _unexpected(self, expected: str, code: int) -> UpgradeError:
        tail = self._log.read_text(errors="replace")[-LOG_TAIL:]
        return UpgradeError(f"expected the drain run {expected}, it ended with {code}:\n{tail}")


@contextmanager
def drain_run(platform: Platform, run_id: str, *, can_crash: bool = False) -> Iterator[Drain]:
    """Start a drain run for a ``with`` block, which kills it at its end if it is still running.

    Args:
        platform: platform whose input queue is served.
        run_id: run id for the rows.
        can_crash: start ``Release.crashing_drain`` instead of the ordinary drain run.
    """
    release, folder = platform.release, platform.home.parent
    log = folder / f"drain-{release.name}-{run_id}.log"
    command = [*(release.crashing_drain if can_crash else release.drain), run_id]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=release.environment(platform.home), cwd=folder, stdout=output, stderr=output
        )
    drain = Drain(process, log)
    try:
        yield drain
    finally:
        drain.kill()


def serve(platform: Platform, drain: Drain, bursts: Sequence[Burst], *, sent: int) -> int:
    """Send bursts, each when the one before is done, and return the number of messages sent so far.

    Args:
        platform: platform that serves them.
        drain: its drain run.
        bursts: bursts to send.
        sent: number of messages sent before.
    """
    _wait_until_done(platform, drain, sent, seconds=_LONGEST_START)
    for burst in bursts:
        platform.send(burst.messages)
        sent += len(burst.messages)
        _wait_until_done(platform, drain, sent, seconds=_LONGEST_START if burst is bursts[0] else _LONGEST_WAIT)
        if burst.number == 0 and burst.minute > 0:
            _wait_until_closed(platform, drain, burst.minute - 1)
    return sent


def _wait_until_done(platform: Platform, drain: Drain, sent: int, *, seconds: float) -> None:
    """Wait until every message has an outcome and has been deleted from the queue."""

    def is_done() -> bool:
        found = platform.count("SELECT count(*) AS n FROM ops.ledger")
        if found > sent:
            raise UpgradeError(f"expected {sent:,} messages with an outcome, found {found:,}")
        return found == sent and platform.waiting_inputs() == 0

    _until(is_done, f"an outcome of {sent:,} messages and an empty input queue", drain, seconds)


def _wait_until_closed(platform: Platform, drain: Drain, minute: int) -> None:
    """Wait until the bar of every symbol has closed; bars closed by the clock show in no message's outcome."""

    def is_closed() -> bool:
        found = platform.count(
            "SELECT count(*) AS n FROM ops.live_bars WHERE revision = 0 AND bar_start = %s + %s * interval '1 minute'",
            OPENING,
            minute,
        )
        return found == len(SYMBOLS)

    _until(is_closed, f"{len(SYMBOLS)} closed bars of minute {minute}", drain, _LONGEST_WAIT)


def _until(condition: Callable[[], bool], what: str, drain: Drain, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        drain.check_alive()
        if time.monotonic() > deadline:
            raise UpgradeError(f"expected {what} within {seconds:.0f} s")
        time.sleep(_LOOK_SECONDS)
