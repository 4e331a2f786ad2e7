"""Outbox rows as calls of a publisher: at most one row per group and call where a channel may accept part of a call."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from surveillance_pipelines.clock import to_iso
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.stores.outbox import OutboxRow

_UNSTAMPED: Final = '"t_published":null'


def ordered_calls(rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
    """Split messages into the minimum number of calls with at most one message per group.

    Required by channels such as SQS, which may refuse one entry of a call and accept a later one: if both had the same
    group, the later message would arrive first.
    """
    calls: list[list[OutboxRow]] = []
    assigned: Counter[str] = Counter()
    for row in rows:
        if assigned[row.group_id] == len(calls):
            calls.append([])
        calls[assigned[row.group_id]].append(row)
        assigned[row.group_id] += 1
    return calls


def send_entries(rows: Sequence[OutboxRow], *, published_at: int) -> list[SendEntry]:
    """Return the entries to send, with ``t_published`` set; the deduplication id is the id of the row."""
    return [SendEntry(_stamped(row.body, published_at), row.group_id, row.id) for row in rows]


def _stamped(body: str, published_at: int) -> str:
    """Return a message with ``t_published`` set.

    Keys are sorted and all later keys have plain values, so the last occurrence of ``t_published`` is the field itself.
    """
    head, _, tail = body.rpartition(_UNSTAMPED)
    return f'{head}"t_published":"{to_iso(published_at)}"{tail}'
