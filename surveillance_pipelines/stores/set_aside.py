"""Messages that SQS has set aside, recorded as dead letters."""

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.stores import tables

SET_ASIDE: Final = "set_aside"
"""Code of the dead letters; it is none of the decoder's refusal codes."""

_REASON: Final = "SQS set it aside: it was received repeatedly and never deleted, so runs failed or stalled"


def record_set_aside(
    connection: psycopg.Connection[Any], queue_url: str, batch: Sequence[Received], *, committed_at: int
) -> int:
    """Record messages without an outcome in inbox, ledger and dead letters; return their number.

    Args:
        connection: connection of a transaction that the caller commits.
        queue_url: input queue from which SQS has moved the messages.
        batch: the messages.
        committed_at: microseconds since the epoch.
    """
    ids = [message.message_id for message in batch]
    rows = connection.execute("SELECT message_id FROM ops.ledger WHERE message_id = ANY(%s)", (ids,))
    known = {message_id for (message_id,) in rows}
    new = [message for message in batch if message.message_id not in known]
    if not new:
        return 0
    now, text = to_datetime(committed_at), tables.storable
    inbox = [
        [m.message_id, queue_url, text(m.group_id), m.dedup_id, m.sequence_number, text(m.body),
         to_datetime(m.sent_at), to_datetime(m.received_at), m.receive_count, m.sender_id, None, None, None, now]
        for m in new
    ]  # fmt: skip
    # The ledger row has no deduplication id: the replay of the message must not count as its duplicate.
    ledger = [[m.message_id, None, queue_url, "dead", SET_ASIDE, now, None, 0] for m in new]
    letters = [
        [m.message_id, queue_url, text(m.body), SET_ASIDE, _REASON, to_datetime(m.received_at), "sqs"] for m in new
    ]
    for table, values in ((tables.INBOX, inbox), (tables.LEDGER, ledger), (tables.DEAD_LETTERS, letters)):
        connection.execute(table.insert, table.parameters(values))
    return len(new)
