"""Messages that SQS has set aside, recorded as dead letters."""

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.contracts.text import storable
from surveillance_pipelines.engine.effects import OutcomeName
from surveillance_pipelines.engine.repeats import is_same_content, kept_content
from surveillance_pipelines.stores import tables
from surveillance_pipelines.stores.ledger import known_ids

SET_ASIDE: Final = "set_aside"
"""Code of the dead letters; it is none of the decoder's refusal codes."""

_REASON: Final = "SQS set it aside: it was received repeatedly and never deleted, so runs failed or stalled"


def record_set_aside(
    connection: psycopg.Connection[Any],
    queue_url: str,
    batch: Sequence[Received],
    *,
    committed_at: int,
    content_based_dedup: bool,
) -> int:
    """Record messages without an outcome in inbox and ledger, and as dead letters; return their number.

    A message that repeats another one with its deduplication id is a duplicate and no dead letter, as in a drain run.

    Args:
        connection: connection of a transaction that the caller commits.
        queue_url: input queue from which SQS has moved the messages.
        batch: the messages.
        committed_at: microseconds since the epoch.
        content_based_dedup: the queue derives dedup ids from bodies; they are ignored.
    """
    known = known_ids(connection, queue_url, batch)
    new = [message for message in batch if message.message_id not in known.message_ids]
    if not new:
        return 0
    contents, outcomes = dict(known.dedup_ids), list[tuple[str | None, OutcomeName]]()
    for message in new:
        dedup_id = None if content_based_dedup else message.dedup_id
        if dedup_id is None or dedup_id not in contents:
            outcomes.append((dedup_id, "dead"))
            contents |= {} if dedup_id is None else {dedup_id: kept_content(message.body)}
        elif (first := contents[dedup_id]) is None or is_same_content(first, message.body):
            outcomes.append((dedup_id, "duplicate"))
        else:  # another content: a dead letter, and the ledger keeps the id of the first message
            outcomes.append((None, "dead"))
    now, text = committed_at, storable
    inbox = [
        [m.message_id, queue_url, text(m.group_id), m.dedup_id, m.sequence_number, text(m.body),
         m.sent_at, m.received_at, m.receive_count, m.sender_id, None, None, None, now]
        for m in new
    ]  # fmt: skip
    ledger = [
        [m.message_id, dedup_id, queue_url, outcome, SET_ASIDE, now, None, 0]
        for m, (dedup_id, outcome) in zip(new, outcomes, strict=True)
    ]
    letters = [
        [m.message_id, queue_url, text(m.body), SET_ASIDE, _REASON, m.received_at, "sqs"]
        for m, (_, outcome) in zip(new, outcomes, strict=True)
        if outcome == "dead"
    ]
    for table, values in ((tables.INBOX, inbox), (tables.LEDGER, ledger), (tables.DEAD_LETTERS, letters)):
        if values:
            connection.execute(table.insert, table.parameters(values))
    return len(new)
