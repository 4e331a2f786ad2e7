"""Opens the output channels of ``surveillance_pipelines.channels``."""

from collections.abc import Callable
from typing import Final, Protocol

from surveillance_pipelines.channels import SIDE_CHANNELS
from surveillance_pipelines.contracts.errors import NotReadyError, SurveillanceError, extra_remedy
from surveillance_pipelines.contracts.urls import require_readable_url
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.transports.publisher import Publisher


class ClosablePublisher(Publisher, Protocol):
    """A publisher that owns connections."""

    def ping(self) -> None:
        """Check that the channel answers, without sending a message.

        Raises:
            ChannelDownError: if it does not answer.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def open_channel(settings: Settings, channel: str) -> ClosablePublisher:
    """Return the publisher of one of ``settings.side_channels``; it connects on its first call.

    Raises:
        NotReadyError: if a library of the channel is not installed.
        SurveillanceError: if the channel has a row in ``SIDE_CHANNELS`` and no function that opens it.
    """
    if channel not in OPENERS:
        raise SurveillanceError(
            f"expected a channel with a function that opens it ({', '.join(OPENERS)}), got {channel!r}: "
            "add one to transports/channels.py"
        )
    try:
        return OPENERS[channel](settings)
    except ModuleNotFoundError as error:
        raise NotReadyError(
            f"expected the package {error.name}, found none",
            remedy=extra_remedy(SIDE_CHANNELS[channel].extra),
        ) from error


def _open_redis(settings: Settings) -> ClosablePublisher:
    from surveillance_pipelines.transports.redis_streams import RedisStream

    assert settings.redis_url is not None, "settings refuse the channel redis without REDIS_URL"
    url = settings.redis_url.get_secret_value()
    require_readable_url(url, "REDIS_URL")
    return RedisStream(url, settings.redis_stream, settings.redis_max_length)


OPENERS: Final[dict[str, Callable[[Settings], ClosablePublisher]]] = {"redis": _open_redis}
"""Name of a side channel → function that opens it."""
