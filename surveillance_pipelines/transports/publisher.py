"""The port through which messages leave the platform; every transport behind it states what it guarantees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.queue import SendEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """What a consumer may rely on, given that the platform sends each message at least once.

    Attributes:
        ordering: ``group`` if consumers get the messages of one group in the order they were sent.
        delivery: how often an accepted message reaches a consumer.
        dedup_seconds: for how long the channel drops a message whose id it has accepted before; 0 for never.
        durable: whether an accepted message survives a crash of the channel's machine.
        keeps_group_order: whether a call that is accepted in part accepts nothing of a group after a refused entry of
            it. If not, a call must not carry two messages of one group.
        after_failover: what consumers may miss or see twice, in a sentence.
    """

    ordering: Literal["group", "none"]
    delivery: Literal["at_least_once", "at_most_once"]
    dedup_seconds: float
    durable: bool
    keeps_group_order: bool
    after_failover: str


class PublishError(SurveillanceError, code=ErrorCode.FAILED):
    """Some messages of a call were refused.

    Attributes:
        failures: index of the entry in the caller's list → the channel's reason. Other entries were accepted.
    """

    def __init__(self, message: str, failures: Mapping[int, str]) -> None:
        super().__init__(message)
        self.failures = dict(failures)


class ChannelDownError(SurveillanceError, code=ErrorCode.UNAVAILABLE):
    """The channel did not answer. Whether it accepted the messages is unknown: send all of them again."""


class Publisher(Protocol):
    """A channel that accepts messages, in the order given."""

    @property
    def guarantee(self) -> Guarantee: ...

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        """Send messages and return the channel's own ids of them.

        Raises:
            PublishError: naming the entries that were refused.
            ChannelDownError: if the channel did not answer.
        """
        ...
