"""The loop of a delivery run: read undelivered rows, send them to the channel, record them.

Delivery is at least once: a row is recorded after the channel has accepted it, so after a crash in between it is sent
again with the same id. The order within a group is kept: after a refused row, its group is retried with growing pauses
until that row is accepted, while other groups continue. A channel that does not respond is retried the same way.

A run that has lost its lease notices it when it records, so it may send one more call; its successor sends these rows
again. Both send in order from a position before which everything is delivered, so a consumer that drops repeated ids
still receives each group in order.

The loop keeps at most ``window`` rows of a queue in memory. If a refused group fills the window, the queue waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from surveillance_pipelines.clock import MICROSECONDS, Clock
from surveillance_pipelines.runtime.meter import Meter
from surveillance_pipelines.runtime.send_calls import ordered_calls, send_entries
from surveillance_pipelines.stores.outbox import OutboxRow
from surveillance_pipelines.telemetry import get_logger
from surveillance_pipelines.transports.publisher import ChannelDownError, Publisher, PublishError

QUEUES_SECONDS: Final = 1.0
"""Interval between checks for new queues in the outbox."""

OUTBOX_TO_CHANNEL: Final = "outbox_to_channel"
"""Latency from the commit of a row to its acceptance by the channel."""

_LOG = get_logger("delivery")


class DeliveryStore(Protocol):
    """The outbox of one channel, under the channel's lease."""

    def queues(self) -> Sequence[str]:
        """Return the input queues that have rows in the outbox."""
        ...

    def undelivered(self, queue_url: str, *, after: int, limit: int) -> Sequence[OutboxRow]:
        """Return the oldest undelivered rows of a queue with a position greater than ``after``."""
        ...

    def record(
        self, queue_url: str, rows: Sequence[OutboxRow], references: Sequence[str | None], *, at: int, cursor: int
    ) -> None:
        """Record deliveries and the cursor, all or none; raises ``LeaseLostError`` once the lease is lost."""
        ...

    def record_failure(self, error: str, *, at: int) -> None:
        """Record why the channel does not respond or refuses a row."""
        ...

    def renew(self) -> None:
        """Extend the lease; raises ``LeaseLostError`` once it is lost."""
        ...


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """How a delivery run reads and retries.

    Attributes:
        window: maximum rows of one queue in memory.
        call_rows: maximum rows in one call to the channel.
        poll_seconds: pause when there is nothing to deliver.
        first_pause_seconds: pause after the first failure; it doubles with each further failure.
        longest_pause_seconds: maximum pause.
    """

    window: int = 1000
    call_rows: int = 100
    poll_seconds: float = 0.05
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 10.0


@dataclass(slots=True)
class _Retry:
    failures: int
    at: int


@dataclass(slots=True)
class _Queue:
    """Rows of one queue that were read and are not delivered, in order."""

    url: str
    pending: list[OutboxRow] = field(default_factory=list)
    read: int = 0  # position of the last row that was read
    refused: dict[str, _Retry] = field(default_factory=dict)  # group → time of the next attempt

    @property
    def cursor(self) -> int:
        """The position up to which every row is delivered."""
        return self.pending[0].position - 1 if self.pending else self.read


class DeliveryLoop:
    """Delivers the outbox to one channel. Not thread-safe."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        store: DeliveryStore,
        meter: Meter,
        clock: Clock,
        options: DeliveryOptions,
    ) -> None:
        self._publisher: Final = publisher
        self._store: Final = store
        self._meter: Final = meter
        self._clock: Final = clock
        self._options: Final = options
        self._queues: Final[dict[str, _Queue]] = {}
        self._queues_due = 0
        self._outage: _Retry | None = None  # set while the channel does not respond
        self._round_failed = False  # whether the channel did not respond to a call of this round

    def run_once(self) -> int:
        """Deliver all rows that are not waiting for a retry; return the number of rows accepted.

        If the channel does not respond, the round ends; a round after the pause tries every queue again.

        Raises:
            LeaseLostError: if another run delivers to the channel.
        """
        if self._outage is not None and self._clock.now_us() < self._outage.at:
            return 0
        delivered, self._round_failed = 0, False
        self._find_queues()
        for queue in self._queues.values():
            self._read(queue)
            delivered += self._deliver(queue)
            if self._round_failed:
                break
        return delivered

    @property
    def pending(self) -> int:
        """Rows that were read and are not delivered."""
        return sum(len(queue.pending) for queue in self._queues.values())

    def pause_seconds(self) -> float:
        """Return the pause before the next ``run_once`` if the last one delivered nothing."""
        outage_left = 0 if self._outage is None else self._outage.at - self._clock.now_us()
        return outage_left / MICROSECONDS if outage_left > 0 else self._options.poll_seconds

    def _find_queues(self) -> None:
        now = self._clock.now_us()
        if now >= self._queues_due:
            for queue_url in self._store.queues():
                self._queues.setdefault(queue_url, _Queue(queue_url))
            self._queues_due = now + round(QUEUES_SECONDS * MICROSECONDS)

    def _read(self, queue: _Queue) -> None:
        free = self._options.window - len(queue.pending)
        if free <= 0:
            return
        rows = self._store.undelivered(queue.url, after=queue.read, limit=free)
        if rows:
            queue.pending.extend(rows)
            queue.read = rows[-1].position

    def _deliver(self, queue: _Queue) -> int:
        """Send the pending rows of a queue, except those of groups that wait after a refusal."""
        now = self._clock.now_us()
        blocked = {group for group, retry in queue.refused.items() if retry.at > now}
        delivered = 0
        for call in self._calls([row for row in queue.pending if row.group_id not in blocked]):
            rows = [row for row in call if row.group_id not in blocked]  # a group may be refused by an earlier call
            if rows:
                delivered += self._send(queue, rows, blocked)
            if self._round_failed:
                break
        return delivered

    def _calls(self, rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
        size = self._options.call_rows
        whole = [list(rows)] if self._publisher.guarantee.keeps_group_order else ordered_calls(rows)
        return [call[start : start + size] for call in whole for start in range(0, len(call), size)]

    def _send(self, queue: _Queue, call: Sequence[OutboxRow], blocked: set[str]) -> int:
        """Send one call, record the accepted rows, and add groups with refused rows to ``blocked``."""
        begin = self._clock.now_us()
        references: Sequence[str | None]
        failures: Mapping[int, str] = {}
        try:
            references = self._publisher.send(send_entries(call, published_at=begin))
        except PublishError as error:
            failures, references = error.failures, [None] * len(call)
        except ChannelDownError as error:
            self._record_outage(str(error))
            return 0
        now = self._clock.now_us()
        self._outage = None
        self._meter.observe("send", (now - begin) / MICROSECONDS)
        accepted = [i for i in range(len(call)) if i not in failures]
        self._record(queue, [call[i] for i in accepted], [references[i] for i in accepted], now)
        if failures:
            for group in {call[i].group_id for i in failures}:
                queue.refused[group] = self._next_retry(queue.refused.get(group), now)
                blocked.add(group)
            self._meter.count("refused", len(failures))
            reason = f"{len(failures)} of {len(call)} messages refused, the first: {failures[min(failures)]}"
            _LOG.warning("messages refused", reason=reason, row=call[min(failures)].id)
            self._store.record_failure(reason, at=now)
        return len(accepted)

    def _record(self, queue: _Queue, rows: Sequence[OutboxRow], references: Sequence[str | None], now: int) -> None:
        if not rows:
            return
        done = {row.position for row in rows}
        queue.pending = [row for row in queue.pending if row.position not in done]
        for group in {row.group_id for row in rows}:
            queue.refused.pop(group, None)
        begin = self._clock.now_us()
        self._store.record(queue.url, rows, references, at=now, cursor=queue.cursor)
        self._meter.observe("record", (self._clock.now_us() - begin) / MICROSECONDS)
        self._meter.count("delivered", len(rows))
        for row in rows:
            self._meter.observe(OUTBOX_TO_CHANNEL, (now - row.created_at) / MICROSECONDS)

    def _record_outage(self, error: str) -> None:
        now = self._clock.now_us()
        if self._outage is None:
            _LOG.warning("channel does not answer", error=error)
        self._outage, self._round_failed = self._next_retry(self._outage, now), True
        self._meter.count("unanswered", 1)
        self._store.record_failure(error, at=now)

    def _next_retry(self, known: _Retry | None, now: int) -> _Retry:
        failures = 1 if known is None else known.failures + 1
        options = self._options
        pause = min(options.first_pause_seconds * 2.0 ** min(failures - 1, 30), options.longest_pause_seconds)
        return _Retry(failures, now + round(pause * MICROSECONDS))
