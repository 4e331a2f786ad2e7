"""Virtual time, and the processes that share it: one at a time, in an order that only the schedule decides.

A process is a thread, because the shell is ordinary blocking code, but only one thread runs at any moment and the
hand-over is explicit. So a schedule is a function of its seed. Instants are microseconds since the epoch.
"""

import heapq
import threading
from collections.abc import Callable
from itertools import count
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS

Action = Callable[[], None]


class KilledError(BaseException):
    """The process is gone. Not an ``Exception``: no handler of the code under test may catch it."""


class StuckError(AssertionError):
    """The schedule did not come to rest in the virtual time it was given."""


class Actor:
    """One process: runs until it sleeps, goes on when its time comes."""

    def __init__(self, timeline: "Timeline", body: Action) -> None:
        self._timeline: Final = timeline
        self._body: Final = body
        self._gate: Final = _closed_gate()
        self._thread: Final = threading.Thread(target=self._run, daemon=True)
        self.alive = True
        self.killed = False

    def resume(self) -> None:
        """Let the thread run until it sleeps or ends; called by the main thread only."""
        if self._thread.ident is None:
            self._thread.start()
        self._gate.release()
        self._timeline.main_gate.acquire()

    def suspend(self) -> None:
        """Give control back to the main thread, and wait for the next ``resume``."""
        self._timeline.main_gate.release()
        self._gate.acquire()
        if self.killed:
            raise KilledError

    def end(self) -> None:
        """End a process that sleeps."""
        self.killed = True
        if self._thread.ident is None:
            self.alive = False
        while self.alive:
            self.resume()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        self._gate.acquire()
        try:
            if not self.killed:
                self._body()
        except KilledError:
            pass
        except BaseException as error:  # noqa: BLE001 (raised again in the main thread)
            self._timeline.failures.append(error)
        finally:
            self.alive = False
            self._timeline.main_gate.release()


class Timeline:
    """The agenda of one schedule."""

    def __init__(self, start_us: int, *, limit_seconds: float) -> None:
        self.now = start_us
        self.failures: Final[list[BaseException]] = []
        self.main_gate: Final = _closed_gate()
        self._limit: Final = start_us + round(limit_seconds * MICROSECONDS)
        self._agenda: Final[list[tuple[int, int, Action | Actor]]] = []
        self._numbers: Final = count()
        self._actors: Final[list[Actor]] = []
        self._running: Actor | None = None

    def at(self, instant: int, action: Action) -> None:
        """Have something done at an instant, now at the earliest."""
        heapq.heappush(self._agenda, (max(instant, self.now), next(self._numbers), action))

    def after(self, seconds: float, action: Action) -> None:
        self.at(self.now + round(seconds * MICROSECONDS), action)

    def spawn(self, body: Action) -> None:
        """Start a process now."""
        actor = Actor(self, body)
        self._actors.append(actor)
        heapq.heappush(self._agenda, (self.now, next(self._numbers), actor))

    def sleep(self, seconds: float) -> None:
        """Let the running process sleep."""
        self.sleep_until(self.now + round(seconds * MICROSECONDS))

    def sleep_until(self, instant: int) -> None:
        """Let the running process sleep; what is due meanwhile happens, other processes run."""
        actor = self._running
        if actor is None:
            raise RuntimeError("expected a process to sleep, was called outside of any")
        if actor.killed:
            raise KilledError
        if instant > self._limit:
            raise StuckError(f"expected the schedule to come to rest, it still runs at {self.now}")
        while self._agenda and self._agenda[0][0] <= instant:
            if isinstance(self._agenda[0][2], Actor):
                heapq.heappush(self._agenda, (instant, next(self._numbers), actor))
                actor.suspend()
                return
            self._next()
        self.now = max(self.now, instant)

    def run(self) -> None:
        """Let time pass until nothing is left to do; raises what a process died of."""
        try:
            while self._agenda and not self.failures:
                if self._agenda[0][0] > self._limit:
                    raise StuckError(f"expected the schedule to come to rest, work is left at {self.now}")
                self._next()
        finally:
            for actor in self._actors:
                self._running = actor
                actor.end()
        if self.failures:
            raise self.failures[0]

    def _next(self) -> None:
        self.now, _, item = heapq.heappop(self._agenda)
        if isinstance(item, Actor):
            self._running = item
            item.resume()
            self._running = None
        else:
            item()


class ProcessClock:
    """A process's own clock: virtual time, off by what its steps have added up to."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline: Final = timeline
        self._offset = 0

    def now_us(self) -> int:
        return self._timeline.now + self._offset

    def sleep(self, seconds: float) -> None:
        self._timeline.sleep(seconds)

    def step(self, seconds: float) -> None:
        """Set the clock forward, or back if negative, as a time server would."""
        self._offset += round(seconds * MICROSECONDS)


def _closed_gate() -> threading.Lock:
    """Return a lock as the cheapest semaphore there is: ``acquire`` waits for one ``release``."""
    gate = threading.Lock()
    gate.acquire()
    return gate
