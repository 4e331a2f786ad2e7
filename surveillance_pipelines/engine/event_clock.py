"""The event clock of a symbol, and the bars that are due by it.

SQS stamps every message with the time at which it accepted it (SentTimestamp), and every response with the time of the
answer. By these stamps, the event clock of a symbol is the event time of its newest message plus the time since that
message was sent. Neither the host's clock nor the messages of other symbols affect it, and it follows a recorded feed
as well as a live one.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple


class Anchor(NamedTuple):
    """Send time and event time of a scored message, compared in this order; microseconds since the epoch."""

    sent_at: int
    event_time: int

    def queue_clock_at(self, event_time: int) -> int:
        """Return the reading of the queue's clock at which the symbol's event clock shows ``event_time``."""
        return self.sent_at + event_time - self.event_time


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A reading of the queue's clock up to which all messages have been received.

    Attributes:
        queue_clock: every message sent before this instant has been received, except those of ``blocked``.
        blocked: message groups that may have earlier messages in the queue.
    """

    queue_clock: int
    blocked: frozenset[str] = frozenset()


class DueBars:
    """The bars in progress, by the reading of the queue's clock at which they are due to close."""

    def __init__(self) -> None:
        self._due: Final[dict[str, int]] = {}
        self._queued: Final[dict[str, int]] = {}  # symbol → its earliest entry in the heap
        self._heap: Final[list[tuple[int, str]]] = []

    def set(self, symbol: str, due: int) -> None:
        """Set when the bar in progress of a symbol is due."""
        self._due[symbol] = due
        if due < self._queued.get(symbol, due + 1):
            self._push(symbol, due)

    def discard(self, symbol: str) -> None:
        """Remove a symbol without a bar in progress."""
        self._due.pop(symbol, None)

    def earliest(self) -> int | None:
        """Return when the next bar is due; None without a bar in progress."""
        self._drop_outdated()
        return self._heap[0][0] if self._heap else None

    def passed(self, queue_clock: int, is_blocked: Callable[[str], bool]) -> list[str]:
        """Return the symbols whose bars are due and not blocked; all of them stay until they are discarded."""
        found: list[str] = []
        while (due := self.earliest()) is not None and due <= queue_clock:
            found.append(heapq.heappop(self._heap)[1])
        for symbol in found:
            self._push(symbol, self._due[symbol])
        return [symbol for symbol in found if not is_blocked(symbol)]

    def _drop_outdated(self) -> None:
        """Remove entries of closed bars from the top of the heap, and move those that are now due later."""
        while self._heap:
            due, symbol = self._heap[0]
            if self._due.get(symbol) == due and self._queued.get(symbol) == due:
                return
            heapq.heappop(self._heap)
            if self._queued.get(symbol) == due:
                del self._queued[symbol]
                if symbol in self._due:
                    self._push(symbol, self._due[symbol])

    def _push(self, symbol: str, due: int) -> None:
        self._queued[symbol] = due
        heapq.heappush(self._heap, (due, symbol))
