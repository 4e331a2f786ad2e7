"""The output channels with delivery runs, one row each.

Settings, delivery runs, the doctor and the Dagster definitions derive from this table. ``transports/channels.py`` opens
a channel. The channel ``sqs`` has no row, because drain runs publish to it.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class SideChannel:
    """An output channel with delivery runs.

    Attributes:
        required_settings: settings without which ``OUTPUT_CHANNELS`` must not list the channel.
        extra: extra of the package with the libraries of the channel.
        asset: name of its Dagster asset.
        check: name of the check of that asset.
    """

    required_settings: tuple[str, ...]
    extra: str
    asset: str
    check: str


SIDE_CHANNELS: Final[dict[str, SideChannel]] = {
    "redis": SideChannel(
        required_settings=("redis_url",), extra="redis", asset="output_stream", check="stream_gets_every_message"
    ),
}
"""Name in ``OUTPUT_CHANNELS`` → channel."""
