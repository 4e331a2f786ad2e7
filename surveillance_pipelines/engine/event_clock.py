"""The event clock: where the feed is now, told by its newest message and the time that has passed since it came.

It follows the newest receive, not the highest event time ever seen, so that an older day fed through the same queue is
not closed by the clock of a newer one. In a live feed the two are the same but for jitter.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Anchor(NamedTuple):
    """A scored message: compared by when it came, then by its event time."""

    received_at: int
    event_time: int


@dataclass(slots=True)
class EventClock:
    """Reads event time at a wall instant. Instants are microseconds since the epoch, UTC."""

    anchor: Anchor | None = None

    def see(self, anchor: Anchor) -> None:
        """Take one more scored message; the order of calls does not matter."""
        if self.anchor is None or anchor > self.anchor:
            self.anchor = anchor

    def read(self, now_us: int) -> int | None:
        """Return the event clock at ``now_us``, None before any message."""
        if self.anchor is None:
            return None
        return self.anchor.event_time + max(0, now_us - self.anchor.received_at)

    def when(self, event_clock: int) -> int | None:
        """Return the wall instant at which the event clock reads ``event_clock``, None before any message."""
        return None if self.anchor is None else self.anchor.received_at + event_clock - self.anchor.event_time
