"""Decides up to which reading of the queue's clock all messages have been received.

Only an answer of the queue shows that no older message is waiting. While a step blocks the intake, there is none, so
no bar closes, however long the step takes.
"""

from typing import Final

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.queue import Poll
from surveillance_pipelines.engine.event_clock import ClockReading

BACKLOG_SECONDS: Final = 1.0
"""A message that waited longer than this in the queue is part of a backlog. SQS delivers the groups of a backlog
unevenly: one group may be an hour ahead of another."""


class ReceivedUntil:
    """Derives clock readings from the answers of one queue.

    An answer that was lost, or received by a process that died, hides its messages for their visibility timeout;
    nothing is known about them in the meantime.
    """

    def __init__(self) -> None:
        self._unknown_for = 0  # from the next answer on
        self._known_from: int | None = None

    def lose(self, seconds: float) -> None:
        """Record that messages may be hidden from this process for ``seconds``."""
        self._unknown_for = max(self._unknown_for, round(seconds * MICROSECONDS))

    def reading(self, poll: Poll, blocked: frozenset[str], hidden_seconds: float) -> ClockReading | None:
        """Return the reading that an answer proves; None if it proves none.

        Args:
            poll: the answer.
            blocked: groups with messages in progress when the call began, of which SQS returns no further message.
            hidden_seconds: visibility timeout of the call's messages.
        """
        if poll.attempts > 1:
            self.lose(hidden_seconds)
        if self._unknown_for:
            self._known_from = poll.answered_at + self._unknown_for
            self._unknown_for = 0
        if self._known_from is not None and poll.answered_at < self._known_from:
            return None
        if not poll.messages:
            return ClockReading(poll.answered_at, blocked)
        fresh = poll.answered_at - round(BACKLOG_SECONDS * MICROSECONDS)
        if min(message.sent_at for message in poll.messages) < fresh:
            return None
        return ClockReading(fresh, blocked | {message.group_id for message in poll.messages})
