"""Output channels of delivery runs, by their names in ``OUTPUT_CHANNELS``."""

from typing import Protocol

from surveillance_pipelines.settings import Settings
from surveillance_pipelines.transports.publisher import Publisher


class ClosablePublisher(Publisher, Protocol):
    """A publisher that owns connections."""

    def close(self) -> None:
        """Close the connections."""
        ...


def open_channel(settings: Settings, channel: str) -> ClosablePublisher:
    """Return the publisher of a channel; it connects on its first call.

    Raises:
        ValueError: if the channel has no delivery runs, or its settings are missing.
    """
    if channel != "redis":
        raise ValueError(f"expected a channel with delivery runs (redis), got {channel!r}")
    if settings.redis_url is None:
        raise ValueError("expected REDIS_URL for the channel redis, got none: set it")
    from surveillance_pipelines.transports.redis_streams import RedisStream

    return RedisStream(settings.redis_url.get_secret_value(), settings.redis_stream, settings.redis_max_length)
