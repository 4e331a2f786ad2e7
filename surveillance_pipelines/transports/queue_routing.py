"""The input queue of a symbol, where several queues share the symbols."""

import hashlib
from collections.abc import Sequence


def queue_for_symbol(symbol: str, queue_urls: Sequence[str]) -> str:
    """Return the queue of a symbol.

    Its index is the first eight bytes of the sha256 of the symbol in UTF-8, read as a big-endian unsigned number,
    modulo the number of queues. Producers implement the same rule; docs/producer-contract.md contains test values.

    Raises:
        ValueError: if there is no queue.
    """
    if not queue_urls:
        raise ValueError("expected at least one queue URL, got none: set SQS_QUEUE_URL")
    digest = hashlib.sha256(symbol.encode()).digest()
    return queue_urls[int.from_bytes(digest[:8], "big") % len(queue_urls)]
