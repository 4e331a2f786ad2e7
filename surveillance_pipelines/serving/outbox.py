"""What goes to the output queue: rows of ``ops.outbox`` written with their cause, sent after it, marked when sent.

A row that was sent and not marked, because the process died in between, is sent again with the same id.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg

from surveillance_pipelines.clock import to_datetime, to_iso
from surveillance_pipelines.contracts.outputs import Score, to_message
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.serving.effects import Effects

PublishScores = Literal["all", "alerts"]


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


def ordered_calls(rows: Sequence[OutboxRow]) -> Iterator[list[OutboxRow]]:
    """Cut messages, in order, into calls that hold each group once.

    SQS may refuse one entry of a call and accept the next. Were both of one group, the later message would be on the
    queue first, and sending the refused one again could not undo that.
    """
    call: list[OutboxRow] = []
    groups: set[str] = set()
    for row in rows:
        if row.group_id in groups:
            yield call
            call, groups = [], set()
        call.append(row)
        groups.add(row.group_id)
    if call:
        yield call


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


def mark_published(connection: psycopg.Connection, ids: Sequence[str], *, published_at: int) -> None:
    """Record that messages were sent, on their outbox rows and on the anomalies and signals they carry."""
    instant, wanted = to_datetime(published_at), list(ids)
    with connection.transaction(), connection.pipeline():
        connection.execute(
            "UPDATE ops.outbox SET published_at = %s WHERE id = ANY(%s) AND published_at IS NULL", (instant, wanted)
        )
        for table in ("anomalies", "signals"):
            connection.execute(
                f"UPDATE surveillance.{table} SET t_published = %s WHERE id = ANY(%s) AND t_published IS NULL",  # noqa: S608 (constant names)
                (instant, wanted),
            )


def _stamped(body: str, published_at: int) -> str:
    return canonical_json({**json.loads(body), "t_published": to_iso(published_at)})


def _as_text(body: Any) -> str:
    return body if isinstance(body, str) else canonical_json(body)
