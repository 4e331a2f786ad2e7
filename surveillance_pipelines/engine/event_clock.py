"""The event clock: the feed's current event time, from its newest message and the time since its receipt.

It follows the message received last, not the highest event time seen. When an older day is fed through the same queue,
the clock of the newer day therefore does not close its bars. In a live feed both differ only by jitter.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Anchor(NamedTuple):
    """Receive time and event time of a scored message, compared in this order."""

    received_at: int
    event_time: int


@dataclass(slots=True)
class EventClock:
    """Converts between wall time and event time. Instants are microseconds since the epoch, UTC."""

    anchor: Anchor | None = None

    def observe(self, anchor: Anchor) -> None:
        """Record a scored message; the order of calls does not matter."""
        if self.anchor is None or anchor > self.anchor:
            self.anchor = anchor

    def read(self, now_us: int) -> int | None:
        """Return the event time at the wall time ``now_us``, None before the first message."""
        if self.anchor is None:
            return None
        return self.anchor.event_time + max(0, now_us - self.anchor.received_at)

    def wall_time(self, event_clock: int) -> int | None:
        """Return the wall time at which the event clock reads ``event_clock``, None before the first message."""
        return None if self.anchor is None else self.anchor.received_at + event_clock - self.anchor.event_time
