"""Messages with a deduplication id that another message has had: repeated or, with another content, in conflict."""

from typing import Final

from surveillance_pipelines.contracts.market import Refusal, Tick
from surveillance_pipelines.contracts.text import storable
from surveillance_pipelines.hashing import sha256_text
from surveillance_pipelines.market.messages import decode_tick

CONFLICT: Final = "conflict"
"""Code of the dead letters; it is none of the decoder's refusal codes."""
LONGEST_KEPT: Final = 1_024
"""Characters of a body that is kept to be compared; a longer one is compared by its hash."""

_HASHED: Final = "sha256:"
_SHOWN: Final = 60


def kept_content(body: str) -> str:
    """Return a body as it is stored, or its hash if it is long; ``stores.ledger`` computes the same in SQL."""
    stored = storable(body)
    return stored if len(stored) <= LONGEST_KEPT else f"{_HASHED}{sha256_text(stored)}"


def is_same_content(first: str, body: str) -> bool:
    """Return whether a body repeats an earlier one: it is equal, or has the same tick in another spelling.

    Args:
        first: ``kept_content`` of the earlier body.
        body: the later body.
    """
    if first == kept_content(body):
        return True
    earlier = decode_tick(first, sent_at=None)
    return isinstance(earlier, Tick) and earlier == decode_tick(body, sent_at=None)


def conflict(dedup_id: str) -> Refusal:
    """Return the refusal of a message that has another content than an earlier one with its id."""
    return Refusal(
        CONFLICT,
        f"expected another deduplication id for another content, got {dedup_id[:_SHOWN]!r} again: use ids that never "
        "repeat, also after a restart of the producer, then replay this message",
    )
