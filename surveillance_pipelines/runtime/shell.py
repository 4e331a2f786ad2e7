"""The shell around the engine: receive, load, process, commit, publish, mark, delete. Each step is one function.

The steps overlap: while one micro-batch is scored, the next one is received, and earlier ones are committed, published
and deleted. Each step handles batches in the order of receipt, so the rows of a symbol keep their order.

A crash between any two steps loses nothing and repeats no effect: before ``commit``, nothing is stored; after it, the
ledger has the inputs, and messages that were not published or not marked are published again with the same id.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from surveillance_pipelines.clock import MICROSECONDS, Clock
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Effects
from surveillance_pipelines.engine.engine import DecodedBatch, Engine
from surveillance_pipelines.engine.event_clock import ClockReading
from surveillance_pipelines.runtime.in_flight import InFlight
from surveillance_pipelines.runtime.meter import Meter
from surveillance_pipelines.runtime.micro_batches import CommitBatch, Publication, ReceivedBatch
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.runtime.ports import Bundles, InputQueue, Store
from surveillance_pipelines.runtime.receiver import Receiver
from surveillance_pipelines.runtime.retrying_stores import RetryingStore
from surveillance_pipelines.runtime.send_calls import ordered_calls, send_entries
from surveillance_pipelines.runtime.tasks import Tasks
from surveillance_pipelines.stores.lease import LeaseLostError
from surveillance_pipelines.stores.outbox import OutboxRow, Published, outbox_rows
from surveillance_pipelines.telemetry import get_logger
from surveillance_pipelines.transports.publisher import Publisher, PublishError
from surveillance_pipelines.transports.sqs import QueueError

Step = Literal["receive", "load", "process", "commit", "publish", "mark", "delete"]
AfterStep = Callable[[Step], None]

STAGE_CAPACITY: Final = 2
"""Micro-batches that may wait between two steps: enough to overlap, few enough to keep a takeover short."""

BATCHES_WITHOUT_PREFETCH: Final = 8
"""Batches handled before the next prefetch, after a prefetch without messages. With few symbols, every batch blocks all
message groups, and each prefetch costs a call."""

VISIBILITY_CHECKS: Final = 4
"""Checks for expiring visibility timeouts, per initial visibility timeout."""

BARS_PER_CLOSE: Final = 200
"""Bars that the clock closes at once. At the end of a minute thousands may be due, which takes seconds."""

STATES_PER_COMMIT: Final = 64
"""States recorded at once while no message arrives after a change of models; a message then waits for at most these."""

SEND_ATTEMPTS: Final = 4
"""SQS may refuse single entries temporarily; ending the run at once would interrupt serving for seconds."""

SEND_PAUSE_SECONDS: Final = 0.05

ROWS_PER_STAMP: Final = 200
"""Rows with a common ``t_published``. At the end of a minute, thousands are published, which takes seconds."""

_LOG = get_logger("shell")


@dataclass(frozen=True, slots=True)
class ShellOptions:
    """How the shell receives and publishes.

    Attributes:
        max_messages: maximum size of a micro-batch.
        hidden_seconds: shortest initial visibility timeout of a message.
        visibility_seconds: later visibility timeout, if the message is still in progress after a quarter of the first.
        poll_seconds: length of a long poll; a run that stops waits for the poll to end.
        published: which rows go to the output queue.
        heartbeat_seconds: interval between renewals of the lease.
    """

    max_messages: int
    hidden_seconds: int
    visibility_seconds: int
    poll_seconds: int
    published: Published
    heartbeat_seconds: float


class Shell:
    """Passes messages between the queues, the store and the engine."""

    def __init__(
        self,
        *,
        inputs: InputQueue,
        outputs: Publisher,
        store: Store,
        engine: Engine,
        bundles: Bundles,
        meter: Meter,
        clock: Clock,
        options: ShellOptions,
        tasks: Tasks,
        outages: Outages,
        after_step: AfterStep = lambda _: None,
        on_status: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._inputs: Final = inputs
        self._outputs: Final = outputs
        self._store: Final = RetryingStore(store, outages)
        self._engine: Final = engine
        self._bundles: Final = bundles
        self._meter: Final = meter
        self._clock: Final = clock
        self._options: Final = options
        self._tasks: Final = tasks
        self._outages: Final = outages
        self._after_step: Final = after_step
        self._on_status: Final = on_status
        self._in_flight: Final = InFlight(tasks.condition())
        self._receiver: Final = Receiver(
            inputs, self._store, outages, clock,
            max_messages=options.max_messages, shortest=options.hidden_seconds, longest=options.visibility_seconds,
        )  # fmt: skip
        self._reading: ClockReading | None = None  # at which more bars may be due
        self._next_close: int | None = None  # by the queue's clock
        self._commit_number = 0
        self._skip_prefetch = 0  # batches to handle before the next prefetch
        self._aborted = False

    def start(self) -> None:
        """Continue where the previous run stopped: make its messages visible, publish its rows, restore all symbols.

        Raises:
            LeaseLostError: if another run has taken over. The next ``run_once`` raises it for a later takeover.
        """
        self._store.renew()
        self._tasks.every(
            "heartbeat", self._options.heartbeat_seconds, self._store.renew
        )  # the rest may take longer than a lease
        self._receiver.start()
        if receipts := self._store.held_before():
            self._make_visible(receipts)
        while leftover := self._store.unpublished():
            self._publish([Publication(leftover, {})])
        for symbol, seed in self._store.served().items():
            self._engine.seed(symbol, seed)
        self._engine.record_bundle(self._clock.now_us())
        self._commits = self._tasks.stage("commit", self._commit, capacity=STAGE_CAPACITY)
        self._publications = self._tasks.stage("publish", self._publish, capacity=STAGE_CAPACITY)
        self._deletions = self._tasks.stage("delete", self._delete, capacity=STAGE_CAPACITY)
        self._tasks.every("hide", self._options.hidden_seconds / VISIBILITY_CHECKS, self._extend_visibility)
        self._received = self._tasks.source("receive", self._receive)

    def run_once(self, wait_seconds: float) -> int:
        """Process the next micro-batch, and close bars that are due; return the number of messages received."""
        received = self._received.next(wait_seconds if self._reading is None else 0.0)
        if (swap := self._bundles.claim()) is not None:
            self._engine.swap(swap, self._clock.now_us())
            _LOG.info("bundle swapped", bundle_hash=swap.predictor.bundle_hash)
            self._on_status(f"scores with bundle {swap.predictor.bundle_hash[:12]} from here on")
        if received is not None and received.batch:
            self._process(received)
        if received is not None and received.reading is not None:
            self._reading = received.reading
        if self._reading is not None:
            self._close_due_bars(self._reading)
        if received is None or not received.batch:
            self._submit(self._engine.record_states(STATES_PER_COMMIT))
        self._next_close = self._engine.next_close()
        return 0 if received is None else len(received.batch)

    def finish(self) -> None:
        """Stop receiving, and finish everything that was received."""
        self._received.stop()
        while (received := self._received.next(0.0)) is not None:
            if received.batch:
                self._process(received)
        self._tasks.finish()
        if not self._in_flight.hides_messages:  # the next run makes them visible
            self._store.forget_held()

    def abort(self) -> None:
        """Stop at once without finishing work; messages received afterwards are made visible to other readers."""
        self._aborted = True
        self._tasks.abort()

    def _receive(self) -> ReceivedBatch:
        """Return the next micro-batch, an empty one if the queue has no messages.

        SQS blocks the groups of messages in flight until these are deleted. While there are any, a prefetch therefore
        does not wait; if it returns no messages, the next batches are handled before another prefetch. Nothing is
        received that cannot be stored: during an outage of the database, the messages stay in the queue.
        """
        options, in_flight = self._options, self._in_flight
        while not self._aborted:
            may_wait = in_flight.is_empty()
            if not may_wait and self._skip_prefetch > 0:
                in_flight.wait_until_empty(options.poll_seconds)
                continue
            blocked = in_flight.groups()
            poll = self._receiver.poll(self._poll_seconds() if may_wait else 0)
            if self._aborted:
                self._set_visibility([message.receipt_handle for message in poll.messages], 0)
                break
            reading = self._receiver.reading(poll, blocked)
            if poll.messages:
                self._skip_prefetch = max(0, self._skip_prefetch - 1)
                return self._record(poll.messages, reading)
            if may_wait:
                return ReceivedBatch(reading=reading)
            self._skip_prefetch = BATCHES_WITHOUT_PREFETCH
        return ReceivedBatch()

    def _poll_seconds(self) -> int:
        """Return the length of a long poll: its answer should come soon after the next bar is due."""
        if self._next_close is None:
            return self._options.poll_seconds
        left = (self._next_close - self._receiver.queue_ahead - self._clock.now_us()) / MICROSECONDS
        return max(1, min(self._options.poll_seconds, math.ceil(left)))

    def _record(self, batch: Sequence[Received], reading: ClockReading | None) -> ReceivedBatch:
        self._after_step("receive")
        with self._timed("load"):
            number = self._in_flight.add(batch, self._clock.now_us(), self._receiver.hidden_seconds)
            self._meter.received(len(batch))
            try:
                known = self._store.record_received(number, batch, done=self._in_flight.pop_done())
            except LeaseLostError:  # the new holder cannot see these receipts
                self._set_visibility([message.receipt_handle for message in batch], 0)
                raise
            self._in_flight.mark_recorded(number)
            return ReceivedBatch(batch, self._receiver.with_recent(batch, known), number, reading)

    def _process(self, received: ReceivedBatch) -> None:
        batch = received.batch
        decoded = self._engine.read(batch)
        self._seed(decoded)
        with self._timed("process"):
            effects = self._engine.process(decoded, received.known)
            effects.computed_at = self._clock.now_us()
        self._commits.submit(CommitBatch(effects, batch, received.number))

    def _seed(self, batch: DecodedBatch) -> None:
        """Seed the engine with symbols that it has no state of, or that have missed a session."""
        begin = self._clock.now_us()
        for _ in range(2):  # a new symbol may miss a session later in the batch
            wanted = self._engine.symbols_to_seed(batch)
            if not wanted:
                return
            length, view = self._engine.window_length, self._engine.feature_view
            for symbol, seed in self._store.history(wanted, window_length=length, feature_view=view).items():
                self._engine.seed(symbol, seed)
            self._meter.observe("seed", (self._clock.now_us() - begin) / MICROSECONDS)

    def _close_due_bars(self, reading: ClockReading) -> None:
        """Close the next bars that are due at a reading. The micro-batches received meanwhile do not wait for all."""
        effects = self._engine.close_due(reading, self._clock.now_us(), limit=BARS_PER_CLOSE)
        if len(effects.bars) < BARS_PER_CLOSE:
            self._reading = None
        self._submit(effects)

    def _submit(self, effects: Effects) -> None:
        """Submit effects that no message has caused."""
        if not effects.is_empty():
            effects.computed_at = self._clock.now_us()
            self._commits.submit(CommitBatch(effects))

    def _commit(self, batches: Sequence[CommitBatch]) -> None:
        """Commit effects, one transaction per micro-batch, and submit messages for publication and deletion."""
        for batch in batches:
            messages = self._commit_one(batch.effects)
            self._meter.committed(batch.effects)
            if messages:
                sent_at = {message.message_id: message.sent_at for message in batch.batch}
                causes = {row.id: row.correlation_id for row in batch.effects.outputs}
                caused = {id_: sent_at[cause] for id_, cause in causes.items() if cause in sent_at}
                self._publications.submit(Publication(messages, caused))
            if batch.batch:
                self._deletions.submit(batch)

    def _commit_one(self, effects: Effects) -> Sequence[OutboxRow]:
        if effects.is_empty():  # every message was redelivered
            return []
        with self._timed("commit"):
            now = self._clock.now_us()
            stamped = effects.stamped(committed_at=now)
            messages = outbox_rows(stamped, self._options.published)
            self._commit_number += 1
            return self._store.commit(stamped, messages, committed_at=now, number=self._commit_number)

    def _publish(self, publications: Sequence[Publication]) -> None:
        waiting = [row for publication in publications for row in publication.rows]
        sent_at = {id_: at for publication in publications for id_, at in publication.sent_at.items()}
        for start in range(0, len(waiting), ROWS_PER_STAMP):
            rows = waiting[start : start + ROWS_PER_STAMP]
            with self._timed("publish"):
                now = self._clock.now_us()
                for call in ordered_calls(rows):
                    self._send(call, now)
            self._meter.published(rows, sent_at, now)
            with self._timed("mark"):
                self._store.mark_published(rows, published_at=now)

    def _send(self, call: Sequence[OutboxRow], now: int) -> None:
        """Send one call; refused entries are sent again before later calls, which keeps the order."""
        entries = send_entries(call, published_at=now)
        for attempt in range(SEND_ATTEMPTS):
            try:
                self._outages.repeat("output queue", partial(self._outputs.send, entries))
            except PublishError as error:
                if attempt == SEND_ATTEMPTS - 1:
                    raise
                entries = [entries[i] for i in sorted(error.failures)]
                self._clock.sleep(SEND_PAUSE_SECONDS * 2**attempt)
            else:
                return

    def _delete(self, batches: Sequence[CommitBatch]) -> None:
        with self._timed("delete"):
            receipts = [message.receipt_handle for batch in batches for message in batch.batch]
            hidden = False
            try:
                self._outages.repeat("input queue", lambda: self._inputs.delete(receipts))
            except QueueError as error:  # these messages are redelivered, recognised and deleted later
                if error.hides_messages:  # and later ones of their groups with them
                    hidden = not self._set_visibility([receipts[i] for i in error.failures], 0)
                self._meter.count("delete_refused", len(error.failures))
                _LOG.warning("messages not deleted", error=str(error))
            self._meter.finished(sum(len(batch.batch) for batch in batches))
            self._in_flight.mark_done([batch.number for batch in batches], hidden=hidden)

    def _extend_visibility(self) -> None:
        """Extend the visibility timeout of messages in progress. Refusals are retried at the next check."""
        now, seconds = self._clock.now_us(), self._options.visibility_seconds
        due = self._in_flight.due_for_extension(now)
        if due and self._set_visibility([receipt for receipts in due.values() for receipt in receipts], seconds):
            self._in_flight.mark_hidden(due, now, seconds)

    def _make_visible(self, receipts: Sequence[str]) -> None:
        """Make messages of the previous run visible now, instead of when their visibility timeout ends."""
        self._set_visibility(receipts, 0)
        self._store.forget_held()
        _LOG.info("messages of the previous run are visible again", count=len(receipts))

    def _set_visibility(self, receipts: Sequence[str], seconds: int) -> bool:
        try:
            self._outages.repeat("input queue", lambda: self._inputs.extend_visibility(receipts, seconds))
        except QueueError as error:  # most are already deleted or visible
            if seconds == 0 and error.hides_messages:
                self._receiver.lose(self._options.visibility_seconds)
            _LOG.info("visibility not changed", error=str(error))
            return False
        return True

    @contextmanager
    def _timed(self, step: Step) -> Iterator[None]:
        begin = self._clock.now_us()
        yield
        self._meter.observe(step, (self._clock.now_us() - begin) / MICROSECONDS)
        self._after_step(step)
