"""Decides up to which reading of the queue's clock all messages have been received.

Only an answer of the queue shows that no older message is waiting. While a step blocks the intake, there is none, so
no bar closes, however long the step takes.
"""

import threading
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.queue import Poll
from surveillance_pipelines.engine.event_clock import ClockReading

BACKLOG_SECONDS: Final = 1.0
"""A message that waited longer than this in the queue is part of a backlog. SQS delivers the groups of a backlog
unevenly: one group may be an hour ahead of another."""

CLOCK_RESOLUTION: Final = MICROSECONDS
"""The queue's clock is in whole seconds, rounded down."""


class ReceivedUntil:
    """Derives clock readings from the answers of one queue. Thread-safe.

    An answer that was lost, or received by a process that died, hides its messages for their visibility timeout;
    nothing is known about them in the meantime.
    """

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._unknown_for = 0  # from the next answer on
        self._known_from = 0

    def lose(self, seconds: float) -> None:
        """Record that messages may be hidden from this process for ``seconds``."""
        with self._lock:
            self._unknown_for = max(self._unknown_for, round(seconds * MICROSECONDS))

    def is_known(self, answered_at: int) -> bool:
        """Return whether no message can be hidden from this process at an answer."""
        with self._lock:
            if self._unknown_for:
                self._known_from = max(self._known_from, answered_at + self._unknown_for + CLOCK_RESOLUTION)
                self._unknown_for = 0
            return answered_at >= self._known_from

    def reading(self, poll: Poll, blocked: frozenset[str]) -> ClockReading | None:
        """Return the reading that an answer proves; None if it proves none.

        Args:
            poll: the answer.
            blocked: groups with messages in progress when the call began, of which SQS returns no further message.
        """
        if not self.is_known(poll.answered_at):
            return None
        if not poll.messages:
            return ClockReading(poll.answered_at, blocked)
        fresh = poll.answered_at - round(BACKLOG_SECONDS * MICROSECONDS)
        if min(message.sent_at for message in poll.messages) < fresh:
            return None
        return ClockReading(fresh, blocked | {message.group_id for message in poll.messages})
