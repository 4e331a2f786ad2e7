"""The ledger: inputs with an outcome, and the transaction that commits the effects of a micro-batch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.contracts.text import storable
from surveillance_pipelines.engine.effects import BreakerEvent, BundleRow, ClockRow, Effects, Known, LaneSeed
from surveillance_pipelines.engine.repeats import LONGEST_KEPT
from surveillance_pipelines.hashing import sha256_bytes
from surveillance_pipelines.stores import tables
from surveillance_pipelines.stores.lease import COMMITS, RENEW_BY_COMMIT, Lease, renewal, require_held
from surveillance_pipelines.stores.outbox import OutboxRow

_KNOWN = """
    SELECT 'message', message_id, NULL FROM ops.ledger WHERE message_id = ANY(%(messages)s)
    UNION ALL
    SELECT 'dedup', ledger.dedup_id,
           CASE WHEN length(body) <= %(longest)s THEN body
                ELSE 'sha256:' || encode(sha256(convert_to(body, 'UTF8')), 'hex') END
    FROM ops.ledger LEFT JOIN ops.inbox USING (message_id)
    WHERE ledger.queue_url = %(queue_url)s AND ledger.dedup_id = ANY(%(dedups)s) AND outcome <> 'duplicate'
"""
"""The third column is ``repeats.kept_content`` of the first message with the id; null without an inbox row."""

_RECORD_RECEIPTS = """
    INSERT INTO ops.in_flight (queue_url, fencing, batch, receipts, received_at)
    SELECT queue_url, fencing, %(batch)s, %(receipts)s, %(received_at)s FROM ops.leases
    WHERE queue_url = %(queue_url)s AND role = 'holder' AND fencing = %(fencing)s
    ON CONFLICT (queue_url, fencing, batch) DO UPDATE SET receipts = EXCLUDED.receipts
"""
"""Inserts nothing once another run holds the lease."""

_DELETE_RECEIPTS = "DELETE FROM ops.in_flight WHERE queue_url = %s AND fencing = %s AND batch = ANY(%s)"


@dataclass(frozen=True, slots=True)
class CommitContext:
    """Context of a commit.

    Attributes:
        lease: lease of the input queue; its name is the URL of the queue.
        run_id: id of the Dagster run.
        committed_at: commit time of the platform's clock, microseconds since the epoch.
        number: number of the commit under this lease, from 1.
    """

    lease: Lease
    run_id: str | None
    committed_at: int
    number: int = 1

    @property
    def queue_url(self) -> str:
        return self.lease.name


def record_received(
    connection: psycopg.Connection, lease: Lease, number: int, batch: Sequence[Received], *, done: Sequence[int]
) -> Known:
    """Record the receipts of a micro-batch, delete those of ``done``, and return the ids that have a ledger row.

    Uses one round trip.

    Raises:
        LeaseLostError: if another run has acquired the lease.
    """
    receipts = {
        "queue_url": lease.name,
        "fencing": lease.fencing,
        "batch": number,
        "receipts": [message.receipt_handle for message in batch],
        "received_at": to_datetime(batch[0].received_at),
    }
    with connection.pipeline():
        if done:
            connection.execute(_DELETE_RECEIPTS, (lease.name, lease.fencing, list(done)))
        recorded = connection.execute(_RECORD_RECEIPTS, receipts)
        found = connection.execute(_KNOWN, _known_values(lease.name, batch))
    require_held(recorded, lease)
    return _known(found)


def known_ids(connection: psycopg.Connection, queue_url: str, batch: Sequence[Received]) -> Known:
    """Return the ids of messages that have a ledger row."""
    return _known(connection.execute(_KNOWN, _known_values(queue_url, batch)))


def _known_values(queue_url: str, batch: Sequence[Received]) -> dict[str, Any]:
    return {
        "queue_url": queue_url,
        "messages": [message.message_id for message in batch],
        "dedups": [message.dedup_id for message in batch if message.dedup_id is not None],
        "longest": LONGEST_KEPT,
    }


def _known(found: psycopg.Cursor) -> Known:
    rows = found.fetchall()
    return Known(
        frozenset(id_ for what, id_, _ in rows if what == "message"),
        {id_: content for what, id_, content in rows if what == "dedup"},
    )


def held_before(connection: psycopg.Connection, lease: Lease) -> list[str]:
    """Return the recorded receipts of earlier holders, oldest first."""
    rows = connection.execute(
        "SELECT receipts FROM ops.in_flight WHERE queue_url = %s AND fencing < %s ORDER BY fencing, batch",
        (lease.name, lease.fencing),
    )
    return [receipt for (receipts,) in rows for receipt in receipts]


def forget_held(connection: psycopg.Connection, lease: Lease) -> None:
    """Delete the recorded receipts of earlier holders and of this one."""
    connection.execute("DELETE FROM ops.in_flight WHERE queue_url = %s AND fencing <= %s", (lease.name, lease.fencing))


def commit_effects(
    connection: psycopg.Connection, effects: Effects, messages: Sequence[OutboxRow], context: CommitContext
) -> list[OutboxRow]:
    """Write effects and the messages that they publish in one transaction and round trip, if the lease is still held.

    Returns:
        The messages that are new in the outbox, with their positions.

    Raises:
        LeaseLostError: if another run has acquired the lease; nothing is written then.
    """
    posted: psycopg.Cursor | None = None
    with connection.transaction():
        with connection.pipeline():
            renewed = connection.execute(RENEW_BY_COMMIT, (context.number, *renewal(context.lease)))
            for seed in effects.seeds:  # before the inbox rows, whose positions must be after the seed
                connection.execute(tables.LANE_SEED, _seed_values(seed, context))
            for row in effects.bundles:  # before the messages that the bundles score
                connection.execute(tables.SERVED_BUNDLE, _bundle_values(row, context))
            for table, rows in _rows(effects, context):
                if rows:
                    connection.execute(table.insert, table.parameters(rows))
            if messages:
                posted = connection.execute(tables.OUTBOX.insert, _outbox_parameters(messages, context))
            for event in effects.breakers:
                connection.execute(tables.BREAKER_EVENT, _breaker_values(event, context))
            for row in effects.clock_rows:
                connection.execute(tables.CLOCK_ROW, _clock_values(row, context))
        require_held(renewed, context.lease)
    positions: dict[str, int] = {} if posted is None else dict(posted.fetchall())
    return _posted(messages, positions, context)


def find_commit(
    connection: psycopg.Connection, messages: Sequence[OutboxRow], context: CommitContext
) -> list[OutboxRow] | None:
    """Return the result of a commit that may have taken effect although its call failed; None if it did not.

    Raises:
        LeaseLostError: if another run has acquired the lease.
    """
    lease = context.lease
    found = connection.execute(COMMITS, (lease.name, lease.role, lease.holder, lease.fencing))
    require_held(found, lease)
    (commits,) = found.fetchone() or (0,)
    if commits < context.number:
        return None
    ids = [message.id for message in messages]
    positions = connection.execute("SELECT id, position FROM ops.outbox WHERE id = ANY(%s)", (ids,))
    return _posted(messages, dict(positions.fetchall()), context)


def _posted(messages: Sequence[OutboxRow], positions: Mapping[str, int], context: CommitContext) -> list[OutboxRow]:
    return [
        OutboxRow(row.id, row.group_id, row.row_type, row.body, positions[row.id], context.committed_at)
        for row in messages
        if row.id in positions
    ]


def _clock_values(row: ClockRow, context: CommitContext) -> tuple[Any, ...]:
    instants = to_datetime(row.queue_clock), to_datetime(row.recorded_at)
    return context.queue_url, *instants, list(row.symbols), context.run_id


def _bundle_values(row: BundleRow, context: CommitContext) -> tuple[Any, ...]:
    return context.queue_url, row.bundle_hash, row.feature_view, to_datetime(row.recorded_at), context.run_id


def _breaker_values(event: BreakerEvent, context: CommitContext) -> tuple[Any, ...]:
    queue_url, at = context.queue_url, to_datetime(event.at)
    return queue_url, event.model, event.state, event.reason, at, context.run_id


def _seed_values(row: LaneSeed, context: CommitContext) -> tuple[Any, ...]:
    as_of = None if row.as_of_bar_start is None else to_datetime(row.as_of_bar_start)
    history = row.history.packed()
    return (
        context.queue_url, row.symbol, row.feature_view, row.calendar, as_of, history, sha256_bytes(history),
        to_datetime(context.committed_at), context.run_id,
    )  # fmt: skip


_TableRows = tuple[tables.Table, list[list[Any]]]


def _outbox_parameters(messages: Sequence[OutboxRow], context: CommitContext) -> list[Any]:
    now, queue_url, run_id = context.committed_at, context.queue_url, context.run_id
    return tables.OUTBOX.parameters(
        [row.id, queue_url, row.row_type, row.body, row.group_id, now, run_id] for row in messages
    )


def _rows(effects: Effects, context: CommitContext) -> Iterator[_TableRows]:
    yield from _input_rows(effects, context)
    yield from _state_rows(effects, context)
    for table, outputs in (
        (tables.ANOMALIES, effects.anomalies),
        (tables.INCIDENTS, effects.incidents),
        (tables.SIGNALS, effects.signals),
        (tables.PREDICTIONS, effects.predictions),
    ):
        yield table, [tables.output_values(row, table.columns) for row in outputs]


def _input_rows(effects: Effects, context: CommitContext) -> Iterator[_TableRows]:
    queue_url, run_id, now = context.queue_url, context.run_id, context.committed_at
    text = storable
    yield (
        tables.INBOX,
        [
            [m.message_id, queue_url, text(m.group_id), m.dedup_id, m.sequence_number, text(m.body),
             m.sent_at, m.received_at, m.receive_count, m.sender_id, row.event_time, row.symbol, run_id, now]
            for row in effects.inbox for m in (row.message,)
        ],
    )  # fmt: skip
    yield (
        tables.LEDGER,
        [
            [row.message_id, row.dedup_id, queue_url, row.outcome, row.reason, now, run_id, context.lease.fencing]
            for row in effects.outcomes
        ],
    )
    yield (
        tables.DEAD_LETTERS,
        [
            [row.message_id, queue_url, text(row.body), row.code, text(row.reason), row.received_at, "sqs"]
            for row in effects.dead_letters
        ],
    )
    yield tables.INSTRUMENTS, [[row.symbol, row.calendar, now, "sqs"] for row in effects.instruments]


def _state_rows(effects: Effects, context: CommitContext) -> Iterator[_TableRows]:
    queue_url, run_id, now = context.queue_url, context.run_id, context.committed_at
    yield tables.LIVE_BARS, [[*tables.bar_values(bar), queue_url, run_id, now] for bar in effects.bars]
    yield (
        tables.FEATURE_STATE,
        [
            [queue_url, row.symbol, row.name, row.as_of_bar_start, row.day, row.state, now]
            for row in effects.states
        ],
    )  # fmt: skip
