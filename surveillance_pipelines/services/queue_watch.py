"""How an input queue is doing: what waits, who serves it, when it last had news, which bars still have to close."""

from dataclasses import dataclass
from typing import Final

import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, to_us
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.engine.event_clock import EventClock
from surveillance_pipelines.engine.snapshots import SERVING_STATE, load_serving_state
from surveillance_pipelines.transports.sqs import QueueClient

_BOOKS: Final = """
    WITH living AS (SELECT role, holder, run_id FROM ops.leases
                    WHERE queue_url = %(queue_url)s AND expires_at > clock_timestamp())
    SELECT (SELECT holder FROM living WHERE role = 'holder'),
           (SELECT holder FROM living WHERE role = 'standby'),
           (SELECT array_agg(run_id) FROM living WHERE run_id IS NOT NULL),
           (SELECT received_at FROM ops.inbox WHERE queue_url = %(queue_url)s ORDER BY position DESC LIMIT 1),
           (SELECT count(*) FROM (SELECT 1 FROM ops.outbox
                                  WHERE queue_url = %(queue_url)s AND published_at IS NULL LIMIT 1000) AS unsent),
           (SELECT coalesce(sum(cardinality(receipts)), 0) FROM ops.in_flight WHERE queue_url = %(queue_url)s)
"""

_SERVING_STATES: Final = "SELECT state FROM ops.feature_state WHERE queue_url = %s AND feature_view = %s"


@dataclass(frozen=True, slots=True)
class QueueView:
    """One look at a queue and at the books about it.

    Attributes:
        queue_url: which queue.
        waiting: messages that a receive call would find, by SQS's own approximate count; None if out of reach.
        in_flight: messages that somebody holds.
        unreachable: why the queue could not be asked; None if it could.
        holder: who holds its lease; None if nobody does.
        standby: who is ready to; None if nobody is.
        run_ids: of these two, as far as they are runs of Dagster's.
        last_message_at: when the newest message was received, microseconds since the epoch; None before the first.
        unsent: output messages that wait to be published, counted up to 1,000.
        due_bars: bars in progress whose minute the event clock has passed: a run left them, and only a run closes them.
        left: receipts that a run left when it died; the next one shows again what is hidden of them, and forgets them.
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
        """Whether anything is known to come out of the queue, so that it cannot count as silent."""
        return bool(self.waiting or self.unsent or self.due_bars)

    @property
    def has_work(self) -> bool:
        return self.has_input or self.left > 0


def look_at(client: QueueClient, connection: psycopg.Connection, clock: Clock = SYSTEM_CLOCK) -> QueueView:
    """Return how the queue of a client is doing. A queue that cannot be asked is a finding, not an error."""
    books = connection.execute(_BOOKS, {"queue_url": client.queue_url}).fetchone()
    holder, standby, run_ids, received_at, unsent, held = books or (None,) * 6
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
        unsent=unsent or 0,
        due_bars=_due_bars(connection, client.queue_url, clock.now_us()),
        left=0 if holder is not None else int(held or 0),
    )


@dataclass(frozen=True, slots=True)
class SetAside:
    """What SQS has moved to the dead-letter queue behind a queue.

    Attributes:
        messages: how many; None if there is no such queue, or it cannot be asked.
        problem: why it cannot be asked, None if it can.
    """

    messages: int | None
    problem: str | None = None


def look_aside(client: QueueClient) -> SetAside:
    """Return what SQS has set aside of a queue. A dead-letter queue that cannot be asked is a finding, not an error."""
    try:
        depth = client.set_aside()
    except (BotoCoreError, ClientError) as error:
        return SetAside(None, f"{type(error).__name__}: {error}; it takes sqs:GetQueueUrl and sqs:GetQueueAttributes")
    return SetAside(None if depth is None else depth.total)


def _due_bars(connection: psycopg.Connection, queue_url: str, now_us: int) -> int:
    """Count the bars that a run would close, now or once their grace has passed."""
    event_clock, ends = EventClock(), []
    for (state,) in connection.execute(_SERVING_STATES, (queue_url, SERVING_STATE)):
        serving = load_serving_state(bytes(state))
        if serving.anchor is not None:
            event_clock.see(serving.anchor)
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
