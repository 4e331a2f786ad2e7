"""The input queues, and their names in tags and texts."""

from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from surveillance_pipelines.contracts.queue import AwsCredentials
    from surveillance_pipelines.defs.resources import PlatformResource
    from surveillance_pipelines.transports.sqs import QueueClient

QUEUE_TAG: Final = "surveillance/queue"
"""Run tag with the queue of a drain run, or ``delivery:<channel>``. dagster.yaml limits the runs per value."""


def queue_name(queue_url: str) -> str:
    """Return the last part of a queue's URL, such as ``market_queue.fifo``."""
    return urlsplit(queue_url).path.rsplit("/", 1)[-1]


def queue_tag(queue_url: str) -> str:
    """Return account and name of a queue, such as ``000000000000/market_queue.fifo``; unique across accounts."""
    return urlsplit(queue_url).path.strip("/")


def input_queues(platform: "PlatformResource") -> list["QueueClient"]:
    """Return a client for each input queue."""
    endpoints, region = platform.endpoints, platform.settings.aws_region
    return [_client(endpoints.sqs_endpoint_url, region, endpoints.aws, url) for url in endpoints.queue_urls]


@cache
def _client(endpoint_url: str | None, region: str, credentials: "AwsCredentials", queue_url: str) -> "QueueClient":
    """Return the cached client of a queue; creating one takes longer than a call."""
    from surveillance_pipelines.transports.sqs import QueueClient

    return QueueClient(endpoint_url, region, credentials, queue_url)
