"""What goes to the output queue: rows of ``ops.outbox`` written with their cause, sent after it, marked when sent.

A row that was sent and not marked, because the process died in between, is sent again with the same id.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg

from surveillance_pipelines.clock import to_datetime, to_iso
from surveillance_pipelines.contracts.outputs import Score, to_message
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.engine.effects import Effects
from surveillance_pipelines.hashing import canonical_json

PublishScores = Literal["all", "alerts"]

_NOT_SENT: Final = '"t_published":null'
_CARRIED: Final = {"anomalies": '"type":"anomaly"', "signals": '"type":"signal"'}
"""Table → what stands in the messages that carry its rows. Unescaped quotes: no text inside a message can hold it."""
_STAMP: Final = {
    table: f"UPDATE surveillance.{table} SET t_published = %s WHERE id = ANY(%s) AND t_published IS NULL".encode()  # noqa: S608 (constant names)
    for table in _CARRIED
}


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message to publish. ``body`` is JSON whose ``t_published`` is null until it is sent."""

    id: str
    group_id: str
    body: str


def outbox_rows(effects: Effects, publish_scores: PublishScores) -> list[OutboxRow]:
    """Return the messages that effects publish, in the order of their causes; the group is the symbol."""
    return [
        OutboxRow(row.id, row.symbol, canonical_json(to_message(row)))
        for row in effects.outputs
        if publish_scores == "all" or not isinstance(row, Score)
    ]


def ordered_calls(rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
    """Deal messages out to as few calls as hold each group once: the first of each group, the second of each, …

    SQS may refuse one entry of a call and accept the next. Were both of one group, the later message would be on the
    queue first, and sending the refused one again could not undo that.
    """
    calls: list[list[OutboxRow]] = []
    dealt: Counter[str] = Counter()
    for row in rows:
        if dealt[row.group_id] == len(calls):
            calls.append([])
        calls[dealt[row.group_id]].append(row)
        dealt[row.group_id] += 1
    return calls


def send_entries(rows: Sequence[OutboxRow], *, published_at: int) -> list[SendEntry]:
    """Return the entries for the output queue, stamped with the instant of sending; the row's id deduplicates."""
    return [SendEntry(_stamped(row.body, published_at), row.group_id, row.id) for row in rows]


def unpublished(connection: psycopg.Connection, queue_url: str, *, limit: int = 1000) -> list[OutboxRow]:
    """Return the oldest messages of a queue that no run has marked as sent, in the order they were caused."""
    rows = connection.execute(
        "SELECT id, group_id, body FROM ops.outbox WHERE published_at IS NULL AND queue_url = %s "
        "ORDER BY position LIMIT %s",
        (queue_url, limit),
    )
    return [OutboxRow(id_, group_id, _as_text(body)) for id_, group_id, body in rows]


def mark_published(connection: psycopg.Connection, rows: Sequence[OutboxRow], *, published_at: int) -> None:
    """Record that messages were sent, on their outbox rows and on the anomalies and signals they carry."""
    instant = to_datetime(published_at)
    wanted: dict[str, list[str]] = {table: [] for table in _CARRIED}
    for row in rows:
        for table, mark in _CARRIED.items():
            if mark in row.body:
                wanted[table].append(row.id)
    with connection.transaction(), connection.pipeline():
        connection.execute(
            "UPDATE ops.outbox SET published_at = %s WHERE id = ANY(%s) AND published_at IS NULL",
            (instant, [row.id for row in rows]),
        )
        for table, ids in wanted.items():
            if ids:
                connection.execute(_STAMP[table], (instant, ids))


def _stamped(body: str, published_at: int) -> str:
    """Return a message with the instant of its sending; nothing but the field itself can look like that in JSON."""
    head, _, tail = body.partition(_NOT_SENT)
    return f'{head}"t_published":"{to_iso(published_at)}"{tail}'


def _as_text(body: Any) -> str:
    return body if isinstance(body, str) else canonical_json(body)
