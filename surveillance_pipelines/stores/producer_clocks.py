"""How far the timestamps of each producer are from the send times of its messages."""

from dataclasses import dataclass
from typing import Any, Final

import psycopg

_AHEAD: Final = """
    SELECT queue_url, coalesce(sender_id, ''), group_id, count(*),
           extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY event_time - sent_at)),
           extract(epoch FROM max(event_time - sent_at))
    FROM ops.inbox
    WHERE received_at > clock_timestamp() - %s * interval '1 second' AND event_time IS NOT NULL
    GROUP BY 1, 2, 3 ORDER BY 5 DESC LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class ProducerClock:
    """The timestamps of one sender and message group, relative to the queue's clock.

    Attributes:
        queue_url: input queue.
        sender_id: SenderId of SQS; empty if SQS gives none.
        group_id: message group.
        messages: number of messages.
        median_ahead: median of timestamp minus send time, in seconds; negative for a delayed or recorded feed.
        most_ahead: maximum of the same.
    """

    queue_url: str
    sender_id: str
    group_id: str
    messages: int
    median_ahead: float
    most_ahead: float

    @property
    def name(self) -> str:
        """Group and sender, for display."""
        return f"group {self.group_id}" + (f" of sender {self.sender_id}" if self.sender_id else "")


def producer_clocks(connection: psycopg.Connection[Any], *, seconds: float, limit: int = 20) -> list[ProducerClock]:
    """Return the producers of the last ``seconds``, those whose timestamps are most ahead first."""
    rows = connection.execute(_AHEAD, (seconds, limit)).fetchall()
    return [
        ProducerClock(queue, sender, group, count, float(median), float(most))
        for queue, sender, group, count, median, most in rows
    ]
