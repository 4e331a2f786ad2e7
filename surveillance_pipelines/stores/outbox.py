"""The outbox: messages committed with their cause, read by each channel in order, recorded as delivered.

``ops.outbox`` holds one row per message, ``ops.outbox_deliveries`` one row per message and channel it has reached, and
``ops.delivery_cursors`` one position per (queue, channel) up to which every row is delivered. So finding undelivered
rows is a range scan from the cursor, whatever has been delivered before.

The cursor is sound because positions of one queue commit in order: only the holder of the queue's lease writes outbox
rows, in one transaction at a time that begins by locking the lease's row, and a takeover waits for that lock. No row
can appear behind a cursor. Positions of different queues interleave, hence a cursor for each queue. A cursor never
moves back, so a run that has lost its lease and records late changes nothing that its successor recorded.

A row that was sent and not recorded, because the process died in between, is sent again with the same id.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg

from surveillance_pipelines.clock import to_datetime, to_iso, to_us
from surveillance_pipelines.contracts.outputs import OutputRow, Score, Signal, to_message
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.engine.effects import Effects
from surveillance_pipelines.hashing import canonical_json

PublishScores = Literal["all", "alerts"]
RowType = Literal["anomaly", "signal", "score"]

SQS: Final = "sqs"
"""The channel that the drain run itself delivers to: the SQS output queue."""

_UNSTAMPED: Final = '"t_published":null'

_STAMP: Final[dict[RowType, bytes]] = {
    "anomaly": b"UPDATE surveillance.anomalies SET t_published = %s WHERE id = ANY(%s) AND t_published IS NULL",
    "signal": b"UPDATE surveillance.signals SET t_published = %s WHERE id = ANY(%s) AND t_published IS NULL",
}
"""Row type → the update of the table that holds its rows. Scores have no ``t_published``."""

_CURSOR: Final = "SELECT position FROM ops.delivery_cursors WHERE queue_url = %(queue_url)s AND channel = %(channel)s"

_UNDELIVERED: Final = f"""
    FROM ops.outbox AS waiting
    WHERE waiting.queue_url = %(queue_url)s AND waiting.position > greatest(%(after)s, coalesce(({_CURSOR}), 0))
      AND NOT EXISTS (SELECT FROM ops.outbox_deliveries AS delivered
                      WHERE delivered.channel = %(channel)s AND delivered.position = waiting.position
                        AND delivered.position > greatest(%(after)s, coalesce(({_CURSOR}), 0)))
"""
"""Rows behind the cursor may be delivered already: those of other groups than the one that the channel refuses. Both
range conditions start at the cursor, so the anti-join never reads what lies before it."""

_SELECT_UNDELIVERED: Final = (
    f"SELECT id, group_id, row_type, body, position, created_at {_UNDELIVERED} ORDER BY position LIMIT %(limit)s"
)

_COUNT_UNDELIVERED: Final = f"SELECT count(*) FROM (SELECT 1 {_UNDELIVERED} LIMIT %(limit)s) AS counted"  # noqa: S608

_WITH_QUEUES: Final = """
    WITH RECURSIVE queues (queue_url) AS (
        SELECT min(queue_url) FROM ops.outbox
        UNION ALL
        SELECT (SELECT min(queue_url) FROM ops.outbox WHERE outbox.queue_url > queues.queue_url)
        FROM queues WHERE queue_url IS NOT NULL
    )
"""
"""The distinct queues of the outbox by one index probe each; DISTINCT would read every row. The last one is NULL."""

_QUEUES: Final = f"{_WITH_QUEUES} SELECT queue_url FROM queues WHERE queue_url IS NOT NULL"  # noqa: S608 (constant text)

_WAITING: Final = f"""
    {_WITH_QUEUES}
    SELECT count(waiting.created_at), min(waiting.created_at)
    FROM queues
    LEFT JOIN ops.delivery_cursors AS cursors ON cursors.queue_url = queues.queue_url AND cursors.channel = %(channel)s
    CROSS JOIN LATERAL (
        SELECT created_at FROM ops.outbox AS posted
        WHERE posted.queue_url = queues.queue_url AND posted.position > coalesce(cursors.position, 0)
          AND NOT EXISTS (SELECT FROM ops.outbox_deliveries AS delivered
                          WHERE delivered.channel = %(channel)s AND delivered.position = posted.position
                            AND delivered.position > coalesce(cursors.position, 0))
        ORDER BY posted.position LIMIT %(limit)s
    ) AS waiting
"""  # noqa: S608 (constant text)

_LAST_ERROR: Final = """
    SELECT error, failed_at FROM ops.delivery_cursors
    WHERE channel = %s AND error IS NOT NULL ORDER BY failed_at DESC LIMIT 1
"""

_RECORD: Final = """
    WITH moved AS (
        INSERT INTO ops.delivery_cursors AS held (queue_url, channel, position, updated_at)
        VALUES (%(queue_url)s, %(channel)s, %(cursor)s, %(at)s)
        ON CONFLICT (queue_url, channel) DO UPDATE
        SET position = greatest(held.position, EXCLUDED.position), updated_at = EXCLUDED.updated_at,
            error = NULL, failed_at = NULL
    )
    INSERT INTO ops.outbox_deliveries (channel, position, created_at, delivered_at, reference)
    SELECT %(channel)s, position, created_at, %(at)s, reference
    FROM unnest(%(positions)s::bigint[], %(created)s::timestamptz[], %(references)s::text[])
         AS delivered (position, created_at, reference)
    ON CONFLICT DO NOTHING
"""

_RECORD_FAILURE: Final = """
    INSERT INTO ops.delivery_cursors (queue_url, channel, position, updated_at, error, failed_at)
    SELECT queue_url, %(channel)s, 0, %(at)s, %(error)s, %(at)s FROM unnest(%(queues)s::text[]) AS failed (queue_url)
    ON CONFLICT (queue_url, channel) DO UPDATE SET error = EXCLUDED.error, failed_at = EXCLUDED.failed_at
"""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message to deliver.

    Attributes:
        id: of the output row; the deduplication id on every channel.
        group_id: the symbol; the order within a group is kept on channels that keep any.
        row_type: which output row the message carries.
        body: JSON whose ``t_published`` is null until it is sent.
        position: in the outbox; 0 before the row is committed.
        created_at: when the row was committed, microseconds since the epoch; 0 before.
    """

    id: str
    group_id: str
    row_type: RowType
    body: str
    position: int = 0
    created_at: int = 0


def row_type_of(row: OutputRow) -> RowType:
    """Return the ``type`` of a row's message."""
    if isinstance(row, Score):
        return "score"
    return "signal" if isinstance(row, Signal) else "anomaly"


def outbox_rows(effects: Effects, publish_scores: PublishScores) -> list[OutboxRow]:
    """Return the messages that effects publish, in the order of their causes; the group is the symbol."""
    return [
        OutboxRow(row.id, row.symbol, row_type_of(row), canonical_json(to_message(row)))
        for row in effects.outputs
        if publish_scores == "all" or not isinstance(row, Score)
    ]


def ordered_calls(rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
    """Split messages into as few calls as hold each group at most once: the first of each group, the second, …

    For a channel that may refuse one entry of a call and accept a later one, as SQS does: were both of one group, the
    later message would arrive first, and sending the refused one again could not undo that.
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
    """Return the entries to send, stamped with the instant of sending; the row's id deduplicates."""
    return [SendEntry(_stamped(row.body, published_at), row.group_id, row.id) for row in rows]


def undelivered(
    connection: psycopg.Connection, queue_url: str, channel: str, *, after: int = 0, limit: int = 1000
) -> list[OutboxRow]:
    """Return the oldest messages of a queue that a channel has not got, in the order of their causes.

    Args:
        connection: an open connection.
        queue_url: the input queue that caused them.
        channel: which channel.
        after: leave out positions up to this one.
        limit: at most this many.
    """
    values = {"queue_url": queue_url, "channel": channel, "after": after, "limit": limit}
    rows = connection.execute(_SELECT_UNDELIVERED.encode(), values)
    return [
        OutboxRow(id_, group_id, row_type, body, position, to_us(created_at))
        for id_, group_id, row_type, body, position, created_at in rows
    ]


def count_undelivered(connection: psycopg.Connection, queue_url: str, channel: str, *, limit: int = 1000) -> int:
    """Return how many messages of a queue wait for a channel, counted up to ``limit``."""
    values = {"queue_url": queue_url, "channel": channel, "after": 0, "limit": limit}
    row = connection.execute(_COUNT_UNDELIVERED.encode(), values).fetchone()
    return 0 if row is None else row[0]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages that a channel has not got.

    Attributes:
        count: how many, counted up to a limit for each queue.
        oldest_at: when the oldest of them was committed, microseconds since the epoch; None without any.
        error: why the channel last failed or refused a row; None since it accepts rows.
        failed_at: when that was.
    """

    count: int
    oldest_at: int | None
    error: str | None
    failed_at: int | None


def waiting(connection: psycopg.Connection, channel: str, *, limit: int = 1_000_000) -> Waiting:
    """Return what waits for a channel, over all queues."""
    count, oldest = connection.execute(_WAITING.encode(), {"channel": channel, "limit": limit}).fetchone() or (0, None)
    error, failed_at = connection.execute(_LAST_ERROR, (channel,)).fetchone() or (None, None)
    return Waiting(
        count,
        None if oldest is None else to_us(oldest),
        error,
        None if failed_at is None else to_us(failed_at),
    )


def queues(connection: psycopg.Connection) -> list[str]:
    """Return the input queues that have rows in the outbox."""
    return [queue_url for (queue_url,) in connection.execute(_QUEUES.encode())]


def record_deliveries(
    connection: psycopg.Connection,
    queue_url: str,
    channel: str,
    rows: Sequence[OutboxRow],
    *,
    delivered_at: int,
    cursor: int,
    references: Sequence[str | None] | None = None,
) -> None:
    """Record that a channel has got messages, in one statement; a first delivery stays as it was recorded.

    Args:
        connection: an open connection.
        queue_url: the input queue that caused the messages.
        channel: which channel.
        rows: what was delivered.
        delivered_at: microseconds since the epoch.
        cursor: every row of the queue up to this position is delivered.
        references: the channel's own ids of the messages, where they are kept.
    """
    values: dict[str, Any] = {
        "queue_url": queue_url,
        "channel": channel,
        "cursor": cursor,
        "at": to_datetime(delivered_at),
        "positions": [row.position for row in rows],
        "created": [to_datetime(row.created_at) for row in rows],
        "references": [None] * len(rows) if references is None else list(references),
    }
    connection.execute(_RECORD, values)


def record_failure(
    connection: psycopg.Connection, queue_urls: Sequence[str], channel: str, error: str, *, failed_at: int
) -> None:
    """Record why a channel does not accept messages; the next delivery clears it."""
    values = {"queues": list(queue_urls), "channel": channel, "error": error, "at": to_datetime(failed_at)}
    connection.execute(_RECORD_FAILURE, values)


def mark_published(
    connection: psycopg.Connection, queue_url: str, rows: Sequence[OutboxRow], *, published_at: int
) -> None:
    """Record that messages are on the SQS output queue, and stamp the anomalies and signals they carry.

    One round trip. ``rows`` follow directly on what was marked before: the drain run publishes in order.
    """
    instant = to_datetime(published_at)
    cursor = max(row.position for row in rows)
    with connection.transaction(), connection.pipeline():
        record_deliveries(connection, queue_url, SQS, rows, delivered_at=published_at, cursor=cursor)
        for row_type, statement in _STAMP.items():
            ids = [row.id for row in rows if row.row_type == row_type]
            if ids:
                connection.execute(statement, (instant, ids))


def _stamped(body: str, published_at: int) -> str:
    """Return a message with the instant of its sending.

    Keys are sorted and every key after ``t_published`` holds a plain value, so its last occurrence is the field itself.
    """
    head, _, tail = body.rpartition(_UNSTAMPED)
    return f'{head}"t_published":"{to_iso(published_at)}"{tail}'
