"""Output channels other than SQS: assets, run tags and waiting messages."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.publication import STUCK_SECONDS, seconds_since

if TYPE_CHECKING:
    from surveillance_pipelines.services.channel_watch import ChannelView


def channel_tag(channel: str) -> str:
    """Return the value of ``QUEUE_TAG`` of a channel's delivery runs."""
    return f"delivery:{channel}"


@dataclass(frozen=True, slots=True)
class ChannelDelivery:
    """Waiting messages of a channel: their number, the age of the oldest in seconds, and the last error."""

    channel: str
    waiting: int
    seconds: float
    error: str | None
    failed_at: int | None

    @property
    def passed(self) -> bool:
        return self.seconds <= STUCK_SECONDS

    @property
    def summary(self) -> str:
        if not self.waiting:
            return f"channel {self.channel}: no waiting messages"
        found = f"channel {self.channel}: {self.waiting:,} waiting messages, the oldest for {self.seconds:.1f} s"
        if self.error is not None:
            found = f"{found}; last error: {self.error}"
        advice = "read the log of the delivery run, or start delivery_job for this channel"
        return found if self.passed else f"{found}; {advice}"

    @property
    def metadata(self) -> dict[str, Any]:
        known: dict[str, Any] = {"waiting": self.waiting, "oldest_seconds": round(self.seconds, 1)}
        if self.error is not None and self.failed_at is not None:
            known |= {"last_error": self.error, "failed_at": to_datetime(self.failed_at).isoformat()}
        return known


def channel_delivery(platform: PlatformResource, channel: str) -> ChannelDelivery:
    """Return the waiting messages of a channel, over all input queues."""
    from surveillance_pipelines.stores.outbox import waiting

    with platform.connect() as connection:
        found = waiting(connection, channel)
    seconds = seconds_since(found.oldest_at, platform.clock)
    return ChannelDelivery(channel, found.count, seconds, found.error, found.failed_at)


def channel_states(platform: PlatformResource) -> list["ChannelView"]:
    """Return the state of every configured channel with delivery runs."""
    from surveillance_pipelines.services.channel_watch import channel_state

    with platform.connect() as connection:
        return [channel_state(connection, channel) for channel in platform.settings.side_channels]
