"""Interface of output channels, and the delivery guarantee that each of them declares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.queue import SendEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """Guarantee for consumers, given that the platform sends each message at least once.

    Attributes:
        ordering: ``group`` if consumers receive the messages of a group in the order in which they were sent.
        delivery: how often a consumer receives an accepted message.
        dedup_seconds: period in which the channel drops messages with an id that it has accepted before; 0 for none.
        durable: whether accepted messages survive a crash of the channel's machine.
        keeps_group_order: whether a partly accepted call accepts no message of a group after a refused one of that
            group. If false, a call must not contain two messages of one group.
        after_failover: description of lost and repeated messages after a failover.
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
        failures: index of a refused entry in the caller's list → reason. The other entries were accepted.
    """

    def __init__(self, message: str, failures: Mapping[int, str]) -> None:
        super().__init__(message)
        self.failures = dict(failures)


class ChannelDownError(SurveillanceError, code=ErrorCode.UNAVAILABLE):
    """The channel did not answer. It may have accepted the messages; send all of them again."""


class Publisher(Protocol):
    """A channel that accepts messages, in the order given."""

    @property
    def guarantee(self) -> Guarantee: ...

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        """Send messages and return the ids that the channel assigned to them.

        Raises:
            PublishError: if the channel refused some messages.
            ChannelDownError: if the channel did not answer.
        """
        ...
