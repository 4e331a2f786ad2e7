"""Data exchanged with SQS: received messages, messages to send, queue depths and credentials.

Instants are microseconds since the epoch, UTC; those of SQS have millisecond precision.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """AWS credentials, with a token if they are temporary; None uses the credential chain of boto3 (profile, role)."""

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Received:
    """One message received from SQS."""

    message_id: str
    body: str
    group_id: str  # MessageGroupId: the symbol, according to the producer contract
    dedup_id: str | None  # MessageDeduplicationId; a hash of the body if SQS derives ids from content
    sequence_number: str
    sent_at: int
    received_at: int
    receive_count: int
    receipt_handle: str = field(repr=False)
    sender_id: str | None = None  # SenderId: the IAM user or role that sent the message


@dataclass(frozen=True, slots=True)
class Poll:
    """The answer to one receive call.

    Attributes:
        messages: up to ten messages, in order within each group.
        answered_at: the queue's clock when it answered, or somewhat earlier; microseconds since the epoch.
        attempts: calls that were needed. If there were several, an earlier answer may have been lost; its messages
            are hidden until their visibility timeout ends.
    """

    messages: list[Received]
    answered_at: int
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class SendEntry:
    """One message to put on a FIFO queue."""

    body: str
    group_id: str
    dedup_id: str | None = None  # None only for queues that derive ids from content


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Approximate message counts of SQS."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed
