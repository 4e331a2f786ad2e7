"""Threads of a long-running process: sources, stages and recurring actions.

A *source* produces items, and a *stage* handles them in the order of submission, each in a separate thread. An
exception in any thread stops all of them and is re-raised by the caller's next call.
"""

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Generic, Protocol, TypeVar

_Item = TypeVar("_Item")
_Input = TypeVar("_Input", contravariant=True)  # noqa: PLC0105 (a private name, as the protocol requires)
_Output = TypeVar("_Output", covariant=True)  # noqa: PLC0105


class Condition(Protocol):
    """The interface of ``threading.Condition`` that tasks use."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def notify_all(self) -> None: ...

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> object: ...


class Stage(Protocol[_Input]):
    """Handles items in order."""

    def submit(self, item: _Input) -> None:
        """Add an item; blocks while the stage is full."""
        ...


class Source(Protocol[_Output]):
    """Produces items before they are needed."""

    def next(self, wait_seconds: float) -> _Output | None:
        """Return the next item, None after ``wait_seconds`` or once the source has stopped."""
        ...

    def has_more(self) -> bool:
        """Return whether an item is ready."""
        ...

    def stop(self) -> None:
        """Produce no further item; the one in production can still be read."""
        ...


class Tasks(Protocol):
    """Runs sources, stages and recurring actions."""

    def condition(self) -> Condition:
        """Return a condition for use by several threads."""
        ...

    def source(self, name: str, produce: Callable[[], _Item]) -> Source[_Item]:
        """Return a source that keeps one item ready and produces the next one."""
        ...

    def stage(self, name: str, handle: Callable[[list[_Item]], None], *, capacity: int) -> Stage[_Item]:
        """Return a stage of at most ``capacity`` waiting items; ``handle`` gets all of them at once, oldest first."""
        ...

    def every(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        """Repeat an action at an interval until ``finish`` or ``abort``."""
        ...

    def finish(self) -> None:
        """Wait until every stage, in order of creation, has handled its items; then end recurring actions.

        Re-raises the first failure of a thread.
        """
        ...

    def abort(self) -> None:
        """End all threads without handling waiting items."""
        ...


class Runtime(Protocol):
    """Starts threads: those of the interpreter or of a simulation."""

    def condition(self) -> Condition: ...

    def start(self, name: str, body: Callable[[], None]) -> Callable[[], None]:
        """Run a function in a thread; return a function that waits for its end."""
        ...


class Threads:
    """The interpreter's threads."""

    def condition(self) -> Condition:
        return threading.Condition()

    def start(self, name: str, body: Callable[[], None]) -> Callable[[], None]:
        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        return thread.join


class ThreadTasks:
    """One thread for each source, stage and recurring action. Only the caller's thread starts and ends them."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        self._runtime: Final = runtime or Threads()
        self._members: Final[list[_Member]] = []
        self._failure: BaseException | None = None

    def condition(self) -> Condition:
        return self._runtime.condition()

    def source(self, name: str, produce: Callable[[], _Item]) -> Source[_Item]:
        return self._started(_ThreadSource(self, self._runtime, produce), name)

    def stage(self, name: str, handle: Callable[[list[_Item]], None], *, capacity: int) -> Stage[_Item]:
        return self._started(_ThreadStage(self, self._runtime, handle, capacity), name)

    def every(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self._started(_Recurring(self, self._runtime, seconds, action), name)

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
        """Re-raise the first failure of a thread."""
        if self._failure is not None:
            raise self._failure

    def fail(self, error: BaseException) -> None:
        """Store the first failure, and stop every thread."""
        self._failure = self._failure or error
        for member in self._members:
            member.drop()

    def _started(self, member: "_AnyMember", name: str) -> "_AnyMember":
        self._members.append(member)
        member.join = self._runtime.start(name, member.run_guarded)
        return member


class _Member:
    """A thread and the condition on which it waits."""

    def __init__(self, tasks: ThreadTasks, runtime: Runtime) -> None:
        self.join: Callable[[], None] = lambda: None
        self._tasks: Final = tasks
        self._changed: Final = runtime.condition()
        self._closing = self._dropped = False

    def close(self) -> None:
        """End after all items are handled."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def drop(self) -> None:
        """End without handling waiting items."""
        with self._changed:
            self._dropped = True
            self._changed.notify_all()

    def _run(self) -> None:
        raise NotImplementedError

    def run_guarded(self) -> None:
        """Run the member; a failure stops all members."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 (re-raised in the caller's thread)
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
    def __init__(
        self, tasks: ThreadTasks, runtime: Runtime, handle: Callable[[list[_Item]], None], capacity: int
    ) -> None:
        super().__init__(tasks, runtime)
        self._handle: Final = handle
        self._capacity: Final = capacity
        self._waiting: list[_Item] = []

    def submit(self, item: _Item) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < self._capacity or self._dropped)
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
