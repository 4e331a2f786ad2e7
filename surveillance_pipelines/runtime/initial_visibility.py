"""The initial visibility timeout of received messages, which is longer while the queue answers too late.

If an answer arrives after the visibility timeout of its messages, they are visible again. The next receive call returns
them once more, and a FIFO queue refuses to delete them by the expired receipt. Without a longer timeout, this repeats
until SQS moves them to the dead-letter queue.
"""

from typing import Final

from surveillance_pipelines.clock import MICROSECONDS

FACTOR: Final = 4
KEPT_SECONDS: Final = 60.0
"""Time without a late or lost answer after which the timeout is the shortest again; at least the timeout itself."""


class InitialVisibility:
    """Decides the visibility timeout of the next receive call; for one thread.

    Args:
        shortest: normal timeout in seconds. A short one matters only after a crash, when messages that the process had
            received but not recorded stay hidden until it ends.
        longest: limit in seconds.

    Attributes:
        seconds: the current timeout.
    """

    def __init__(self, shortest: int, longest: int) -> None:
        self._shortest: Final = shortest
        self._longest: Final = max(shortest, longest)
        self._kept_until = 0
        self.seconds = shortest

    def inherit(self, seconds: int, now_us: int) -> None:
        """Continue with the timeout of the previous lease holder, whose messages may be hidden for so long."""
        self.seconds = max(self._shortest, seconds)
        self.keep(now_us)

    def lengthen(self, used: int, now_us: int) -> bool:
        """Use a longer timeout, because messages were received again or lost again; return whether it has changed.

        Args:
            used: timeout with which they had been received before.
            now_us: time in microseconds since the epoch.
        """
        before = self.seconds
        if used >= before:
            self.seconds = max(before, min(self._longest, before * FACTOR))
        self.keep(now_us)
        return self.seconds != before

    def shorten(self, now_us: int) -> bool:
        """Return to the shortest timeout if no answer has been late for a while; return whether it has changed."""
        if self.seconds == self._shortest or now_us < self._kept_until:
            return False
        self.seconds = self._shortest
        return True

    def keep(self, now_us: int) -> None:
        """Keep the timeout for a while, because messages may be hidden for so long."""
        self._kept_until = max(self._kept_until, now_us + round(max(KEPT_SECONDS, self.seconds) * MICROSECONDS))
