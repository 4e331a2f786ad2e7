"""The outbox: messages committed in the same transaction as their cause, and their deliveries per channel.

``ops.outbox`` has one row per message, ``ops.outbox_deliveries`` one row per message and channel that received it, and
``ops.delivery_cursors`` one position per (queue, channel) up to which all rows are delivered. Undelivered rows are
found by a range scan from the cursor.

Positions of a queue commit in order: only the holder of the queue's lease writes outbox rows, one transaction at a
time, each of which first locks the row of the lease; a takeover waits for that lock. Therefore no row can appear before
a cursor. Positions of different queues interleave, so each queue has a cursor. A cursor never moves back, so a late
record of a run that has lost its lease does not overwrite that of its successor.

A row that was sent but not recorded because the process died is sent again with the same id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg

from surveillance_pipelines.clock import to_datetime, to_us
from surveillance_pipelines.contracts.outputs import Anomaly, Incident, OutputRow, RowType, Score, Signal, to_message
from surveillance_pipelines.engine.effects import Effects
from surveillance_pipelines.hashing import canonical_json

Published = Literal["incidents", "alerts", "scores"]
"""What is published besides signals: incidents; also every alert; also every score."""

SQS: Final = "sqs"
"""Channel of the SQS output queue, to which drain runs deliver."""

_STAMP: Final[dict[RowType, bytes]] = {
    "anomaly": b"UPDATE surveillance.anomalies SET t_published = %s WHERE id = ANY(%s) AND t_published IS NULL",
    "incident": b"UPDATE surveillance.incidents SET t_published = %s WHERE id = ANY(%s) AND t_published IS NULL",
    "signal": b"UPDATE surveillance.signals SET t_published = %s WHERE id = ANY(%s) AND t_published IS NULL",
}
"""Row type → update of its table. Scores have no ``t_published``."""

_CURSOR: Final = "SELECT position FROM ops.delivery_cursors WHERE queue_url = %(queue_url)s AND channel = %(channel)s"

_UNDELIVERED: Final = f"""
    FROM ops.outbox AS waiting
    WHERE waiting.queue_url = %(queue_url)s AND waiting.position > greatest(%(after)s, coalesce(({_CURSOR}), 0))
      AND NOT EXISTS (SELECT FROM ops.outbox_deliveries AS delivered
                      WHERE delivered.channel = %(channel)s AND delivered.position = waiting.position
                        AND delivered.position > greatest(%(after)s, coalesce(({_CURSOR}), 0)))
"""
"""Rows after the cursor may be delivered already, if the channel refused an earlier row of another group. Both range
conditions start at the cursor, so the anti-join does not read earlier rows."""

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
"""The distinct queues of the outbox, with one index probe each; DISTINCT would read every row. The last row is NULL."""

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
        SET position = greatest(held.position, EXCLUDED.position), updated_at = EXCLUDED.updated_at
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

_CLEAR_FAILURE: Final = """
    UPDATE ops.delivery_cursors SET error = NULL, failed_at = NULL WHERE channel = %s AND error IS NOT NULL
"""

_TYPES: Final[dict[type[OutputRow], RowType]] = {
    Anomaly: "anomaly",
    Incident: "incident",
    Signal: "signal",
    Score: "score",
}
_PUBLISHED_TYPES: Final[dict[Published, frozenset[RowType]]] = {
    "incidents": frozenset({"incident", "signal"}),
    "alerts": frozenset({"incident", "signal", "anomaly"}),
    "scores": frozenset({"incident", "signal", "anomaly", "score"}),
}

_INCIDENTS_AFTER: Final = """
    SELECT position, body FROM ops.outbox
    WHERE queue_url = %s AND position > %s AND row_type = 'incident' ORDER BY position LIMIT %s
"""
_NEWEST: Final = "SELECT position FROM ops.outbox WHERE queue_url = %s ORDER BY position DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One message to deliver.

    Attributes:
        id: id of the output row, which is the deduplication id on every channel.
        group_id: the symbol; messages of a group are ordered on channels that guarantee an order.
        row_type: type of the output row in the message.
        body: JSON; ``t_published`` is null until the message is sent.
        position: position in the outbox; 0 before the commit.
        created_at: commit time, microseconds since the epoch; 0 before the commit.
    """

    id: str
    group_id: str
    row_type: RowType
    body: str
    position: int = 0
    created_at: int = 0


def row_type_of(row: OutputRow) -> RowType:
    """Return the ``type`` of a row's message."""
    return _TYPES[type(row)]


def outbox_rows(effects: Effects, published: Published) -> list[OutboxRow]:
    """Return the messages of the effects, in the order of their causes; the group is the symbol."""
    types = _PUBLISHED_TYPES[published]
    return [
        OutboxRow(row.id, row.symbol, row_type, canonical_json(to_message(row)))
        for row in effects.outputs
        if (row_type := row_type_of(row)) in types
    ]


def undelivered(
    connection: psycopg.Connection, queue_url: str, channel: str, *, after: int = 0, limit: int = 1000
) -> list[OutboxRow]:
    """Return the oldest undelivered messages of a queue for a channel, in the order of their causes.

    Args:
        connection: an open connection.
        queue_url: input queue that caused the messages.
        channel: name of the channel.
        after: return only later positions.
        limit: maximum number of messages.
    """
    values = {"queue_url": queue_url, "channel": channel, "after": after, "limit": limit}
    rows = connection.execute(_SELECT_UNDELIVERED.encode(), values)
    return [
        OutboxRow(id_, group_id, row_type, body, position, to_us(created_at))
        for id_, group_id, row_type, body, position, created_at in rows
    ]


def count_undelivered(connection: psycopg.Connection, queue_url: str, channel: str, *, limit: int = 1000) -> int:
    """Return the number of undelivered messages of a queue for a channel, counted up to ``limit``."""
    values = {"queue_url": queue_url, "channel": channel, "after": 0, "limit": limit}
    row = connection.execute(_COUNT_UNDELIVERED.encode(), values).fetchone()
    return 0 if row is None else row[0]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Undelivered messages of a channel.

    Attributes:
        count: number of messages, counted up to a limit per queue.
        oldest_at: commit time of the oldest one, microseconds since the epoch; None if there is none.
        error: last failure or refusal of the channel; None if it has accepted messages since.
        failed_at: time of the error.
    """

    count: int
    oldest_at: int | None
    error: str | None
    failed_at: int | None


def waiting(connection: psycopg.Connection, channel: str, *, limit: int = 1_000_000) -> Waiting:
    """Return the undelivered messages of a channel, over all queues."""
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
    """Record the delivery of messages to a channel in one statement; existing records are not changed.

    Args:
        connection: an open connection.
        queue_url: input queue that caused the messages.
        channel: name of the channel.
        rows: the delivered messages.
        delivered_at: microseconds since the epoch.
        cursor: position up to which all rows of the queue are delivered.
        references: ids that the channel assigned to the messages, if they are recorded.
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
    """Record the error of a channel that does not accept messages, with the cursors of these queues."""
    values = {"queues": list(queue_urls), "channel": channel, "error": error, "at": to_datetime(failed_at)}
    connection.execute(_RECORD_FAILURE, values)


def clear_failure(connection: psycopg.Connection, channel: str) -> None:
    """Clear the error of a channel that has accepted messages, whichever queues it is recorded with.

    Only delivery runs record and clear errors; a separate statement keeps this write out of the drain runs' deliveries.
    """
    connection.execute(_CLEAR_FAILURE, (channel,))


def mark_published(
    connection: psycopg.Connection, queue_url: str, rows: Sequence[OutboxRow], *, published_at: int
) -> None:
    """Record the publication of messages to the SQS output queue, and set ``t_published`` of their rows.

    Uses one round trip. ``rows`` must directly follow the rows of the previous call; drain runs publish in order.
    """
    instant = to_datetime(published_at)
    cursor = max(row.position for row in rows)
    with connection.transaction(), connection.pipeline():
        record_deliveries(connection, queue_url, SQS, rows, delivered_at=published_at, cursor=cursor)
        for row_type, statement in _STAMP.items():
            ids = [row.id for row in rows if row.row_type == row_type]
            if ids:
                connection.execute(statement, (instant, ids))


def incidents_after(
    connection: psycopg.Connection, queue_url: str, position: int, *, limit: int = 2000
) -> list[tuple[int, str]]:
    """Return position and JSON body of a queue's rows of incidents after a position, in the order of their commits."""
    return connection.execute(_INCIDENTS_AFTER, (queue_url, position, limit)).fetchall()


def newest_position(connection: psycopg.Connection, queue_url: str) -> int:
    """Return the position of a queue's newest message; 0 if it has none."""
    row = connection.execute(_NEWEST, (queue_url,)).fetchone()
    return 0 if row is None else row[0]
