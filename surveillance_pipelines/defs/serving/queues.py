"""How queues are named in tags and sentences."""

from typing import Final
from urllib.parse import urlsplit

QUEUE_TAG: Final = "surveillance/queue"
"""Run tag: which queue a drain run serves. dagster.yaml limits runs by it."""


def queue_name(queue_url: str) -> str:
    """Return the last part of a queue's URL, such as ``market_queue.fifo``."""
    return urlsplit(queue_url).path.rsplit("/", 1)[-1]


def queue_tag(queue_url: str) -> str:
    """Return account and name of a queue, such as ``000000000000/market_queue.fifo``: unique where names repeat."""
    return urlsplit(queue_url).path.strip("/")
