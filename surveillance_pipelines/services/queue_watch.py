"""The state of an input queue: what waits, who serves it, when its last message came, which bars are due to close."""

from dataclasses import dataclass
from typing import Final

import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, to_us
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.engine.event_clock import EventClock
from surveillance_pipelines.engine.snapshots import SERVING_STATE, load_serving_state
from surveillance_pipelines.stores.outbox import SQS, count_undelivered
from surveillance_pipelines.transports.sqs import QueueClient

_STATE: Final = """
    WITH living AS (SELECT role, holder, run_id FROM ops.leases
                    WHERE queue_url = %(queue_url)s AND expires_at > clock_timestamp())
    SELECT (SELECT holder FROM living WHERE role = 'holder'),
           (SELECT holder FROM living WHERE role = 'standby'),
           (SELECT array_agg(run_id) FROM living WHERE run_id IS NOT NULL),
           (SELECT received_at FROM ops.inbox WHERE queue_url = %(queue_url)s ORDER BY position DESC LIMIT 1),
           (SELECT coalesce(sum(cardinality(receipts)), 0) FROM ops.in_flight WHERE queue_url = %(queue_url)s)
"""

_SERVING_STATES: Final = "SELECT state FROM ops.feature_state WHERE queue_url = %s AND feature_view = %s"


@dataclass(frozen=True, slots=True)
class QueueView:
    """The state of a queue, from SQS and from the ledger tables.

    Attributes:
        queue_url: which queue.
        waiting: messages that a receive call would find, by SQS's own approximate count; None if unreachable.
        in_flight: messages that a reader has received and not deleted.
        unreachable: why SQS could not be asked about the queue; None if it could.
        holder: who holds its lease; None if nobody does.
        standby: who stands by; None if nobody does.
        run_ids: of these two, where they are Dagster runs.
        last_message_at: when the newest message was received, microseconds since the epoch; None before the first.
        unsent: output messages that wait for the SQS output queue, counted up to 1,000.
        due_bars: open bars whose minute the event clock has passed; only a drain run closes them.
        left: receipts that a run left when it died; the next run makes their messages visible and deletes the receipts.
    """

    queue_url: str
    waiting: int | None
    in_flight: int
    unreachable: str | None
    holder: str | None
    standby: str | None
    run_ids: frozenset[str]
    last_message_at: int | None
    unsent: int
    due_bars: int
    left: int

    @property
    def has_input(self) -> bool:
        """Whether the queue has data, so that it does not count as silent."""
        return bool(self.waiting or self.unsent or self.due_bars)

    @property
    def has_work(self) -> bool:
        return self.has_input or self.left > 0


def look_at(client: QueueClient, connection: psycopg.Connection, clock: Clock = SYSTEM_CLOCK) -> QueueView:
    """Return the state of a client's queue. An unreachable queue is a finding, not an error."""
    row = connection.execute(_STATE, {"queue_url": client.queue_url}).fetchone()
    holder, standby, run_ids, received_at, held = row or (None,) * 5
    waiting, in_flight, unreachable = _depth(client)
    return QueueView(
        queue_url=client.queue_url,
        waiting=waiting,
        in_flight=in_flight,
        unreachable=unreachable,
        holder=holder,
        standby=standby,
        run_ids=frozenset(run_ids or ()),
        last_message_at=None if received_at is None else to_us(received_at),
        unsent=count_undelivered(connection, client.queue_url, SQS),
        due_bars=_due_bars(connection, client.queue_url, clock.now_us()),
        left=0 if holder is not None else int(held or 0),
    )


@dataclass(frozen=True, slots=True)
class SetAside:
    """Messages that SQS has moved to the dead-letter queue of a queue.

    Attributes:
        messages: how many; None if there is no such queue, or it is unreachable.
        problem: why it is unreachable, None if it is not.
    """

    messages: int | None
    problem: str | None = None


def look_aside(client: QueueClient) -> SetAside:
    """Return what SQS has set aside of a queue. An unreachable dead-letter queue is a finding, not an error."""
    try:
        depth = client.set_aside()
    except (BotoCoreError, ClientError) as error:
        return SetAside(None, f"{type(error).__name__}: {error}; it takes sqs:GetQueueUrl and sqs:GetQueueAttributes")
    return SetAside(None if depth is None else depth.total)


def _due_bars(connection: psycopg.Connection, queue_url: str, now_us: int) -> int:
    """Count the bars that a drain run would close, now or after their grace period."""
    event_clock, ends = EventClock(), []
    for (state,) in connection.execute(_SERVING_STATES, (queue_url, SERVING_STATE)):
        serving = load_serving_state(bytes(state))
        if serving.anchor is not None:
            event_clock.observe(serving.anchor)
        if serving.open_bar is not None:
            ends.append(serving.open_bar.bar_start + MINUTE_US)
    reading = event_clock.read(now_us)
    return 0 if reading is None else sum(end <= reading for end in ends)


def _depth(client: QueueClient) -> tuple[int | None, int, str | None]:
    try:
        depth = client.depth()
    except (BotoCoreError, ClientError) as error:
        return None, 0, f"{type(error).__name__}: {error}"
    return depth.visible + depth.delayed, depth.in_flight, None
