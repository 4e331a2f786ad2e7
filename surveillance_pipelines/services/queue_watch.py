"""State of an input queue: waiting messages, leases, last message, and bars that are due to close."""

from dataclasses import dataclass
from typing import Final

import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, to_us
from surveillance_pipelines.engine.bar_builder import MINUTE_US
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
        queue_url: URL of the queue.
        waiting: approximate number of available messages, from SQS; None if the queue is unreachable.
        in_flight: approximate number of received messages that are not deleted.
        unreachable: reason why the queue is unreachable; None if it is reachable.
        holder: holder of the lease; None if there is none.
        standby: standby run; None if there is none.
        run_ids: Dagster run ids of holder and standby.
        last_message_at: receive time of the newest message, microseconds since the epoch; None before the first.
        unsent: number of unpublished messages for the output queue, counted up to 1,000.
        due_bars: number of open bars that are due to close by the event clock; only a drain run closes them.
        orphaned: number of receipts that a dead run left; the next run makes their messages visible again.
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
    orphaned: int

    @property
    def has_input(self) -> bool:
        """Whether the queue has data to process; such a queue does not count as silent."""
        return bool(self.waiting or self.unsent or self.due_bars)

    @property
    def has_work(self) -> bool:
        return self.has_input or self.orphaned > 0

    @property
    def work(self) -> str:
        """What a drain run has to do."""
        orphaned = f", and {self.orphaned} receipts of a dead run" if self.orphaned else ""
        return f"{self.waiting} messages, {self.unsent} unsent alerts and {self.due_bars} bars to close{orphaned}"


def queue_state(client: QueueClient, connection: psycopg.Connection, clock: Clock = SYSTEM_CLOCK) -> QueueView:
    """Read the state of a client's queue. An unreachable queue is reported, not raised."""
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
        orphaned=0 if holder is not None else int(held or 0),
    )


@dataclass(frozen=True, slots=True)
class DeadLetterQueueState:
    """State of the SQS dead-letter queue of a queue.

    Attributes:
        messages: number of messages; None if the queue has no dead-letter queue, or it is unreachable.
        problem: reason why it is unreachable; None if it is reachable.
    """

    messages: int | None
    problem: str | None = None


def dead_letter_queue_state(client: QueueClient) -> DeadLetterQueueState:
    """Read the state of a client's dead-letter queue. An unreachable one is reported, not raised."""
    try:
        depth = client.dead_letter_depth()
    except (BotoCoreError, ClientError) as error:
        needed = "sqs:GetQueueUrl and sqs:GetQueueAttributes are required"
        return DeadLetterQueueState(None, f"{type(error).__name__}: {error}; {needed}")
    return DeadLetterQueueState(None if depth is None else depth.total)


def _due_bars(connection: psycopg.Connection, queue_url: str, now_us: int) -> int:
    """Count the bars that a drain run would close, immediately or after their grace period."""
    due = 0
    for (state,) in connection.execute(_SERVING_STATES, (queue_url, SERVING_STATE)):
        serving = load_serving_state(bytes(state))
        if serving.open_bar is not None and serving.anchor is not None:
            due += serving.anchor.queue_clock_at(serving.open_bar.bar_start + MINUTE_US) <= now_us
    return due


def _depth(client: QueueClient) -> tuple[int | None, int, str | None]:
    try:
        depth = client.depth()
    except (BotoCoreError, ClientError) as error:
        return None, 0, f"{type(error).__name__}: {error}"
    return depth.visible + depth.delayed, depth.in_flight, None
