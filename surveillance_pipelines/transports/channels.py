"""The channels that a delivery run can serve, by the name they have in ``OUTPUT_CHANNELS``."""

from typing import Protocol

from surveillance_pipelines.settings import Settings
from surveillance_pipelines.transports.publisher import Publisher


class ClosablePublisher(Publisher, Protocol):
    """A publisher that owns connections."""

    def close(self) -> None:
        """Close the connections."""
        ...


def open_channel(settings: Settings, channel: str) -> ClosablePublisher:
    """Return the publisher of a channel; it connects with its first call.

    Raises:
        ValueError: for a channel that no delivery run serves, or one without its settings.
    """
    if channel != "redis":
        raise ValueError(f"expected a channel that has a delivery run (redis), was {channel!r}")
    if settings.redis_url is None:
        raise ValueError("expected REDIS_URL for the channel redis, was not set")
    from surveillance_pipelines.transports.redis_streams import RedisStream

    return RedisStream(settings.redis_url.get_secret_value(), settings.redis_stream, settings.redis_max_length)
