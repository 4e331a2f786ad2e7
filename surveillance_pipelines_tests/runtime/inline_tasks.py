"""Tasks in the caller's own thread, so that a test decides which step happens next and where a crash strikes."""

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from surveillance_pipelines.runtime.tasks import Condition, Source, Stage

_Item = TypeVar("_Item")


class InlineTasks:
    """Implements ``tasks.Tasks``: an item is handled before the call that submits it returns."""

    def condition(self) -> Condition:
        return threading.Condition()

    def source(self, name: str, produce: Callable[[], _Item]) -> Source[_Item]:
        return _InlineSource(produce)

    def stage(self, name: str, handle: Callable[[list[_Item]], None], *, capacity: int) -> Stage[_Item]:
        return _InlineStage(handle)

    def every(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        """Do nothing: the caller repeats the action where it matters."""

    def finish(self) -> None:
        """Do nothing: no item waits."""

    def abort(self) -> None:
        """Do nothing."""


class _InlineSource(Generic[_Item]):
    def __init__(self, produce: Callable[[], _Item]) -> None:
        self._produce: Final = produce
        self._stopped = False

    def next(self, wait_seconds: float) -> _Item | None:
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
