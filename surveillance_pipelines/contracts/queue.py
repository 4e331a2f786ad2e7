"""What crosses the boundary to SQS: messages received, messages to send, and how deep a queue is.

Instants are microseconds since the epoch, UTC. SQS itself keeps milliseconds.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """The keys of an AWS account, with a token if they are temporary; None lets boto3 find them (profile, role)."""

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Received:
    """One message as SQS handed it over."""

    message_id: str
    body: str
    group_id: str  # MessageGroupId: the symbol, by the producer's contract
    dedup_id: str | None  # MessageDeduplicationId; SQS fills it with a hash where it derives ids from content
    sequence_number: str
    sent_at: int
    received_at: int
    receive_count: int
    receipt_handle: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SendEntry:
    """One message to put on a FIFO queue."""

    body: str
    group_id: str
    dedup_id: str | None = None  # None only on a queue that derives ids from content


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """SQS's own approximate counts."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed
