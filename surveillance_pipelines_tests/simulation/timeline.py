"""Virtual time, and the threads of processes that share it: one at a time, in an order that only the schedule decides.

A thread is a greenlet, because the shell is ordinary blocking code: it runs until it sleeps or waits, and the hand-over
is explicit. So a schedule is a function of its seed. Instants are microseconds since the epoch.
"""

import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

import greenlet

from surveillance_pipelines.clock import MICROSECONDS

Action = Callable[[], None]


class KilledError(BaseException):
    """The process is gone. Not an ``Exception``: no handler of the code under test may catch it."""


class StuckError(AssertionError):
    """The schedule did not come to rest in the virtual time it was given."""


class Actor:
    """One thread of a process: runs until it sleeps or waits, goes on when its time comes."""

    def __init__(self, timeline: "Timeline", body: Action) -> None:
        self._timeline: Final = timeline
        self._body: Final = body
        self._greenlet: Final = greenlet.greenlet(self._run)
        self._hub: greenlet.greenlet | None = None
        self.alive = True
        self.killed = False
        self.joining: Final[list[Actor]] = []  # threads that wait for its end
        self.entry = -1  # its newest place on the agenda; older ones do not count

    def resume(self) -> None:
        """Let it run until it sleeps or ends; called by the timeline only."""
        self._hub = self._greenlet.parent = greenlet.getcurrent()
        self._greenlet.switch()

    def suspend(self) -> None:
        """Give control back to the timeline, and wait for the next ``resume``."""
        assert self._hub is not None
        self._hub.switch()
        if self.killed:
            raise KilledError

    def end(self) -> None:
        """End what sleeps."""
        self.killed = True
        while self.alive:
            self.resume()

    def _run(self) -> None:
        try:
            if not self.killed:
                self._body()
        except KilledError:
            pass
        except BaseException as error:  # noqa: BLE001 (raised again by the timeline)
            self._timeline.failures.append(error)
        finally:
            self.alive = False
            for waiting in self.joining:
                self._timeline.wake(waiting)


class Timeline:
    """The agenda of one schedule."""

    def __init__(self, start_us: int, *, limit_seconds: float) -> None:
        self.now = start_us
        self.failures: Final[list[BaseException]] = []
        self._limit: Final = start_us + round(limit_seconds * MICROSECONDS)
        self._agenda: Final[list[tuple[int, int, Action | Actor]]] = []
        self._numbers: Final = count()
        self._actors: Final[list[Actor]] = []
        self._running: Actor | None = None

    @property
    def running(self) -> Actor:
        """The thread that runs now."""
        if self._running is None:
            raise RuntimeError("expected a thread of the simulation to run, was called outside of any")
        return self._running

    def at(self, instant: int, action: Action) -> None:
        """Have something done at an instant, now at the earliest."""
        heapq.heappush(self._agenda, (max(instant, self.now), next(self._numbers), action))

    def after(self, seconds: float, action: Action) -> None:
        self.at(self.now + round(seconds * MICROSECONDS), action)

    def spawn(self, body: Action) -> Actor:
        """Start a thread now."""
        actor = Actor(self, body)
        self._actors.append(actor)
        self.wake(actor)
        return actor

    def wake(self, actor: Actor) -> None:
        """Let a thread go on now, whatever it waits for."""
        if actor.alive:
            self._schedule(actor, self.now)

    def sleep(self, seconds: float) -> None:
        """Let the running thread sleep."""
        self.sleep_until(self.now + round(seconds * MICROSECONDS))

    def sleep_until(self, instant: int) -> None:
        """Let the running thread sleep; what is due meanwhile happens, other threads run."""
        actor = self.running
        if actor.killed:
            raise KilledError
        if instant > self._limit:
            raise StuckError(f"expected the schedule to come to rest, it still runs at {self.now}")
        while self._agenda and self._agenda[0][0] <= instant:
            item = self._agenda[0][2]
            if isinstance(item, Actor) and self._is_current(self._agenda[0]):
                self._schedule(actor, instant)
                actor.suspend()
                return
            self._next()
        self.now = max(self.now, instant)

    def park(self, until: int | None = None) -> None:
        """Let the running thread wait until it is woken, or for an instant."""
        actor = self.running
        if actor.killed:
            raise KilledError
        if until is not None:
            self._schedule(actor, until)
        actor.suspend()

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
            self._running = None
        if self.failures:
            raise self.failures[0]

    def _schedule(self, actor: Actor, instant: int) -> None:
        actor.entry = next(self._numbers)
        heapq.heappush(self._agenda, (max(instant, self.now), actor.entry, actor))

    def _is_current(self, place: tuple[int, int, Action | Actor]) -> bool:
        _, number, item = place
        return not isinstance(item, Actor) or (item.alive and item.entry == number)

    def _next(self) -> None:
        place = heapq.heappop(self._agenda)
        if not self._is_current(place):
            return
        self.now, _, item = place
        if isinstance(item, Actor):
            self._running = item
            item.resume()
            self._running = None
        else:
            item()


class SimulatedCondition:
    """``threading.Condition`` among threads of which one runs at a time."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline: Final = timeline
        self._waiting: list[Actor] = []

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *exception: object) -> None:
        """Do nothing: nobody else has run."""

    def notify_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for actor in waiting:
            self._timeline.wake(actor)

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> object:
        until = None if timeout is None else self._timeline.now + round(timeout * MICROSECONDS)
        while not (result := predicate()):
            if until is not None and self._timeline.now >= until:
                break
            self._waiting.append(self._timeline.running)
            self._timeline.park(until)
        return result


class SimulatedThreads:
    """``tasks.Runtime`` of one process: its threads, which die together."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline: Final = timeline
        self._actors: Final[list[Actor]] = []

    def condition(self) -> SimulatedCondition:
        return SimulatedCondition(self._timeline)

    def start(self, name: str, body: Action) -> Action:
        actor = self._timeline.spawn(body)
        self._actors.append(actor)

        def join() -> None:
            while actor.alive:
                actor.joining.append(self._timeline.running)
                self._timeline.park()

        return join

    def kill(self) -> None:
        """Let no thread of the process run on; the running one is to raise ``KilledError`` itself."""
        for actor in self._actors:
            actor.killed = True
            if actor is not self._timeline.running:
                self._timeline.wake(actor)


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
