"""Who runs the stages of the live lane: threads of one process, or the caller itself, one step after the other.

A *source* produces items, a *stage* works them off in the order they were handed over, both beside the caller. What one
of them raises ends all: the caller meets the error at its next call.
"""

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Generic, Protocol, TypeVar

_Item = TypeVar("_Item")
_Given = TypeVar("_Given", contravariant=True)  # noqa: PLC0105 (a private name, and what a protocol asks for)
_Made = TypeVar("_Made", covariant=True)  # noqa: PLC0105


class Condition(Protocol):
    """What several threads change and wait for, as ``threading.Condition``."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def notify_all(self) -> None: ...

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> object: ...


class Stage(Protocol[_Given]):
    """Takes items, and works them off in order."""

    def submit(self, item: _Given) -> None:
        """Hand an item over; waits while as many wait as the stage has room for."""
        ...


class Source(Protocol[_Made]):
    """Produces items ahead of their use."""

    def next(self, wait_seconds: float) -> _Made | None:
        """Return the next item, None if none comes in time or the source has stopped."""
        ...

    def has_more(self) -> bool:
        """Say whether an item is at hand."""
        ...

    def stop(self) -> None:
        """Produce nothing more; what is being produced now is still to be had."""
        ...


class Tasks(Protocol):
    """Runs sources, stages and what recurs."""

    def condition(self) -> Condition:
        """Return what its threads may share and wait for."""
        ...

    def source(self, name: str, produce: Callable[[], _Item]) -> Source[_Item]:
        """Return a source that holds one item ready and produces the one after it."""
        ...

    def stage(self, name: str, handle: Callable[[list[_Item]], None], *, room: int) -> Stage[_Item]:
        """Return a stage; ``handle`` gets all that wait at once, oldest first."""
        ...

    def every(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        """Have something done again and again until the end."""
        ...

    def finish(self) -> None:
        """Wait until every stage has worked off what it was given, in the order they were made; then end what recurs.

        Raises what a stage died of.
        """
        ...

    def abort(self) -> None:
        """End all without working off what waits."""
        ...


class Runtime(Protocol):
    """Where threads come from: the interpreter, or a simulation."""

    def condition(self) -> Condition: ...

    def start(self, name: str, body: Callable[[], None]) -> Callable[[], None]:
        """Run a body beside the caller; return what waits for its end."""
        ...


class Threads:
    """The interpreter's own threads."""

    def condition(self) -> Condition:
        return threading.Condition()

    def start(self, name: str, body: Callable[[], None]) -> Callable[[], None]:
        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        return thread.join


class InlineTasks:
    """Everything in the caller's own thread: what is handed over is worked off before the call returns."""

    def condition(self) -> Condition:
        return threading.Condition()

    def source(self, name: str, produce: Callable[[], _Item]) -> Source[_Item]:  # noqa: ARG002 (the protocol's)
        return _InlineSource(produce)

    def stage(self, name: str, handle: Callable[[list[_Item]], None], *, room: int) -> Stage[_Item]:  # noqa: ARG002
        return _InlineStage(handle)

    def every(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        """Do nothing: the caller's own steps keep alive what this would."""

    def finish(self) -> None:
        """Do nothing: nothing waits."""

    def abort(self) -> None:
        """Do nothing."""


class _InlineSource(Generic[_Item]):
    def __init__(self, produce: Callable[[], _Item]) -> None:
        self._produce: Final = produce
        self._stopped = False

    def next(self, wait_seconds: float) -> _Item | None:  # noqa: ARG002
        return None if self._stopped else self._produce()

    def has_more(self) -> bool:
        return False

    def stop(self) -> None:
        self._stopped = True


class _InlineStage(Generic[_Item]):
    def __init__(self, handle: Callable[[list[_Item]], None]) -> None:
        self._handle: Final = handle

    def submit(self, item: _Item) -> None:
        self._handle([item])


class ThreadTasks:
    """A thread for each source, stage and recurring action. Made and ended by one thread, the caller's."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        self._runtime: Final = runtime or Threads()
        self._members: Final[list[_Member]] = []
        self._failure: BaseException | None = None

    def condition(self) -> Condition:
        return self._runtime.condition()

    def source(self, name: str, produce: Callable[[], _Item]) -> Source[_Item]:
        return self._begun(_ThreadSource(self, self._runtime, produce), name)

    def stage(self, name: str, handle: Callable[[list[_Item]], None], *, room: int) -> Stage[_Item]:
        return self._begun(_ThreadStage(self, self._runtime, handle, room), name)

    def every(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self._begun(_Recurring(self, self._runtime, seconds, action), name)

    def finish(self) -> None:
        for member in sorted(self._members, key=lambda member: isinstance(member, _Recurring)):
            member.close()
            member.join()
        self.check()

    def abort(self) -> None:
        for member in self._members:
            member.drop()
        for member in self._members:
            member.join()

    def check(self) -> None:
        """Raise what a thread died of."""
        if self._failure is not None:
            raise self._failure

    def fail(self, error: BaseException) -> None:
        """Remember the first failure, and wake everybody up to meet it."""
        self._failure = self._failure or error
        for member in self._members:
            member.drop()

    def _begun(self, member: "_AnyMember", name: str) -> "_AnyMember":
        self._members.append(member)
        member.join = self._runtime.start(name, member.guarded)
        return member


class _Member:
    """A thread with something that it waits for."""

    def __init__(self, tasks: ThreadTasks, runtime: Runtime) -> None:
        self.join: Callable[[], None] = lambda: None
        self._tasks: Final = tasks
        self._changed: Final = runtime.condition()
        self._closing = self._dropped = False

    def close(self) -> None:
        """End once everything is worked off."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def drop(self) -> None:
        """End now."""
        with self._changed:
            self._dropped = True
            self._changed.notify_all()

    def _run(self) -> None:
        raise NotImplementedError

    def guarded(self) -> None:
        """Do the member's work; what it dies of ends all."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
            self._tasks.fail(error)


_AnyMember = TypeVar("_AnyMember", bound=_Member)


class _ThreadSource(_Member, Generic[_Item]):
    def __init__(self, tasks: ThreadTasks, runtime: Runtime, produce: Callable[[], _Item]) -> None:
        super().__init__(tasks, runtime)
        self._produce: Final = produce
        self._ready: Final[deque[_Item]] = deque()
        self._ended = False

    def next(self, wait_seconds: float) -> _Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended or self._dropped, wait_seconds)
            item = self._ready.popleft() if self._ready and not self._dropped else None
            self._changed.notify_all()
        self._tasks.check()
        return item

    def has_more(self) -> bool:
        return bool(self._ready)

    def stop(self) -> None:
        self.close()
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._dropped)
        self._tasks.check()

    def _run(self) -> None:
        while not (self._closing or self._dropped):
            item = self._produce()
            with self._changed:
                self._ready.append(item)
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._ready or self._closing or self._dropped)
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class _ThreadStage(_Member, Generic[_Item]):
    def __init__(self, tasks: ThreadTasks, runtime: Runtime, handle: Callable[[list[_Item]], None], room: int) -> None:
        super().__init__(tasks, runtime)
        self._handle: Final = handle
        self._room: Final = room
        self._waiting: list[_Item] = []

    def submit(self, item: _Item) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < self._room or self._dropped)
            self._waiting.append(item)
            self._changed.notify_all()
        self._tasks.check()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing or self._dropped)
                items, self._waiting = self._waiting, []
                self._changed.notify_all()
                if self._dropped or not items:
                    return
            self._handle(items)


class _Recurring(_Member):
    def __init__(self, tasks: ThreadTasks, runtime: Runtime, seconds: float, action: Callable[[], None]) -> None:
        super().__init__(tasks, runtime)
        self._seconds: Final = seconds
        self._action: Final = action

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._closing or self._dropped, self._seconds):
                    return
            self._action()
