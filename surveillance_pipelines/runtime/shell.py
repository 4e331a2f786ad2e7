"""The shell around the engine: receive, load, process, commit, publish, mark, delete. Each step is one function.

The steps overlap: while one micro-batch is scored, the next one is received, and the ones before are committed,
published and deleted. Each step takes the batches in the order they were received, so no symbol's rows change places.

A crash between any two steps loses nothing and repeats no effect: before ``commit`` nothing happened; after it the
inputs are known by their ledger rows, and what was not published or marked is published again with the same id.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from surveillance_pipelines.clock import MICROSECONDS, Clock
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.engine import Engine, Readings
from surveillance_pipelines.runtime.in_flight import InFlight
from surveillance_pipelines.runtime.meter import Meter
from surveillance_pipelines.runtime.ports import Bundles, InputQueue, OutputQueue, Store
from surveillance_pipelines.runtime.tasks import Tasks
from surveillance_pipelines.stores.outbox import OutboxRow, PublishScores, ordered_calls, outbox_rows, send_entries
from surveillance_pipelines.telemetry import get_logger
from surveillance_pipelines.transports.sqs import QueueError

Step = Literal["receive", "load", "process", "commit", "publish", "mark", "delete"]
AfterStep = Callable[[Step], None]

ROOM: Final = 2
"""Micro-batches that may wait between two steps: enough to overlap, few enough to lose little time to a takeover."""

BATCHES_WITHOUT_LOOK: Final = 8
"""After a look ahead that found nothing: with few symbols every batch closes all groups, and each look costs a call."""

BACKLOG_SECONDS: Final = 1.0
"""A message that has waited in the queue for longer was not waited for: there is a backlog."""

LOOKS_AT_HIDDEN: Final = 4
"""At what is hidden, in the time for which a message is hidden first."""

SEND_ATTEMPTS: Final = 4
"""SQS refuses single entries for moments; a run that gave up at the first would cost seconds."""

SEND_PAUSE_SECONDS: Final = 0.05

REMEMBERED: Final = 10_000
"""Ids of so many newest messages: far more than are between ``load`` and ``commit`` at any time."""

_LOG = get_logger("shell")


@dataclass(frozen=True, slots=True)
class ShellOptions:
    """How the shell receives and publishes.

    Attributes:
        max_messages: at most so many in a micro-batch.
        hidden_seconds: how long a message stays hidden when it is received.
        visibility_seconds: … and from then on, if it is still worked on when a quarter of that is over.
        poll_seconds: how long to wait for a message before asking again; a run that stops waits for it, too.
        publish_scores: which rows go to the output queue.
        heartbeat_seconds: between two renewals of the lease.
    """

    max_messages: int
    hidden_seconds: int
    visibility_seconds: int
    poll_seconds: int
    publish_scores: PublishScores
    heartbeat_seconds: float


@dataclass(frozen=True, slots=True)
class ReceivedBatch:
    """A micro-batch on its way in; an empty one says that the queue gave nothing."""

    batch: Sequence[Received]
    known: Known
    number: int = 0


@dataclass(frozen=True, slots=True)
class CommitBatch:
    """What one micro-batch, or the clock, has caused. ``number`` is the micro-batch's, 0 without one."""

    effects: Effects
    batch: Sequence[Received] = ()
    number: int = 0


@dataclass(frozen=True, slots=True)
class Publication:
    """Messages to send, and when SQS took in the message that caused each: id → microseconds since the epoch."""

    rows: Sequence[OutboxRow]
    sent_at: Mapping[str, int]


class Shell:
    """Carries messages between the queues, the store and the engine."""

    def __init__(
        self,
        *,
        inputs: InputQueue,
        outputs: OutputQueue,
        store: Store,
        engine: Engine,
        bundles: Bundles,
        meter: Meter,
        clock: Clock,
        options: ShellOptions,
        tasks: Tasks,
        after_step: AfterStep = lambda _: None,
        on_status: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._inputs: Final = inputs
        self._outputs: Final = outputs
        self._store: Final = store
        self._engine: Final = engine
        self._bundles: Final = bundles
        self._meter: Final = meter
        self._clock: Final = clock
        self._options: Final = options
        self._tasks: Final = tasks
        self._after_step: Final = after_step
        self._on_news: Final = on_status
        self._in_flight: Final = InFlight(tasks.condition())
        self._recent: Final[OrderedDict[str, None]] = OrderedDict()
        self._is_behind = True  # until the queue has said otherwise
        self._asked_in_vain = 0  # so many batches are still to be done before another look ahead
        self._aborted = False

    def start(self) -> None:
        """Go on where the run before stopped: take over its messages, publish what it left, take every symbol up.

        Raises:
            LeaseLostError: if another run has taken over. One that does so later is noticed in the first ``turn``.
        """
        self._store.renew()
        self._tasks.every("beat", self._options.heartbeat_seconds, self._store.renew)  # what follows may take long
        if receipts := self._store.held_before():
            self._show_again(receipts)
        while leftover := self._store.unpublished():
            self._publish([Publication(leftover, {})])
        for symbol, seed in self._store.served().items():
            self._engine.seed(symbol, seed)
        self._engine.record_bundle(self._clock.now_us())
        self._commits = self._tasks.stage("commit", self._commit, room=ROOM)
        self._publications = self._tasks.stage("publish", self._publish, room=ROOM)
        self._deletions = self._tasks.stage("delete", self._delete, room=ROOM)
        self._tasks.every("hide", self._options.hidden_seconds / LOOKS_AT_HIDDEN, self._keep_hidden)
        self._intake = self._tasks.source("receive", self._receive)

    def turn(self, wait_seconds: float) -> int:
        """Take the next micro-batch, or let the clock close bars; return how many messages came.

        The clock closes no bars while messages come that have waited for long: in a backlog, groups arrive unevenly,
        and the ticks that a bar still waits for are in the queue.
        """
        intake = self._intake.next(wait_seconds)
        if (swap := self._bundles.take()) is not None:
            self._engine.swap(swap, self._clock.now_us())
            _LOG.info("bundle swapped", bundle_hash=swap.predictor.bundle_hash)
            self._on_news(f"scores with bundle {swap.predictor.bundle_hash[:12]} from here on")
        batch = () if intake is None else intake.batch
        if intake is not None and batch:
            self._process(intake)
        if intake is not None:
            self._is_behind = bool(batch) and _waited_us(batch) > BACKLOG_SECONDS * MICROSECONDS
        if not self._is_behind and not self._intake.has_more():
            self._close_due_bars()
        return len(batch)

    def finish(self) -> None:
        """Receive nothing more, and carry everything through that was received."""
        self._intake.stop()
        while (intake := self._intake.next(0.0)) is not None:
            if intake.batch:
                self._process(intake)
        self._tasks.finish()
        self._store.forget_held()

    def abort(self) -> None:
        """Stop without carrying anything further; what is received from now on is shown to others at once."""
        self._aborted = True
        self._tasks.abort()

    def _receive(self) -> ReceivedBatch:
        """Return the next micro-batch, an empty one if the queue has none.

        The groups of messages that are worked on are closed until those are deleted. So while there are any, the queue
        is asked only for what it has of others; where that was nothing, the next batches are done before it is asked.
        """
        options, in_flight = self._options, self._in_flight
        while not self._aborted:
            patient = in_flight.is_empty()
            if not patient and self._asked_in_vain > 0:
                in_flight.wait_until_empty(options.poll_seconds)
                continue
            batch = self._inputs.receive(
                options.max_messages,
                wait_seconds=options.poll_seconds if patient else 0,
                visibility_seconds=options.hidden_seconds,
            )
            if self._aborted:
                self._extend([message.receipt_handle for message in batch], 0)
                break
            if batch:
                self._asked_in_vain = max(0, self._asked_in_vain - 1)
                return self._record(batch)
            if patient:
                return ReceivedBatch((), Known())
            self._asked_in_vain = BATCHES_WITHOUT_LOOK
        return ReceivedBatch((), Known())

    def _record(self, batch: Sequence[Received]) -> ReceivedBatch:
        self._after_step("receive")
        with self._timed("load"):
            receipts = [message.receipt_handle for message in batch]
            number = self._in_flight.add(receipts, self._clock.now_us(), self._options.hidden_seconds)
            self._meter.received(len(batch))
            known = self._store.record_received(number, batch, done=self._in_flight.take_done())
            self._in_flight.recorded(number)
            return ReceivedBatch(batch, known, number)

    def _process(self, intake: ReceivedBatch) -> None:
        batch = intake.batch
        known = self._with_recent(batch, intake.known)
        readings = self._engine.read(batch)
        self._seed(readings)
        with self._timed("process"):
            effects = self._engine.process(readings, known)
            effects.computed_at = self._clock.now_us()
        self._commits.submit(CommitBatch(effects, batch, intake.number))

    def _seed(self, batch: Readings) -> None:
        """Give the engine the symbols of a batch that it does not hold, or that miss a session."""
        begin = self._clock.now_us()
        for _ in range(2):  # a symbol that is new may miss a session later in the batch
            wanted = self._engine.symbols_to_seed(batch)
            if not wanted:
                return
            for symbol, seed in self._store.history(wanted, window_length=self._engine.window_length).items():
                self._engine.seed(symbol, seed)
            self._meter.took("seed", (self._clock.now_us() - begin) / MICROSECONDS)

    def _close_due_bars(self) -> None:
        effects = self._engine.tick_clock(self._clock.now_us())
        if not effects.is_empty():
            effects.computed_at = self._clock.now_us()
            self._commits.submit(CommitBatch(effects))

    def _commit(self, works: Sequence[CommitBatch]) -> None:
        """Make effects durable, one transaction per micro-batch, and hand on what follows from it."""
        for work in works:
            messages = self._commit_one(work.effects)
            self._meter.committed(work.effects)
            if messages:
                sent_at = {message.message_id: message.sent_at for message in work.batch}
                causes = {row.id: row.correlation_id for row in work.effects.outputs}
                caused = {id_: sent_at[cause] for id_, cause in causes.items() if cause in sent_at}
                self._publications.submit(Publication(messages, caused))
            if work.batch:
                self._deletions.submit(work)

    def _commit_one(self, effects: Effects) -> list[OutboxRow]:
        if effects.is_empty():  # every message was known: nothing to write
            return []
        with self._timed("commit"):
            now = self._clock.now_us()
            stamped = effects.stamped(committed_at=now)
            messages = outbox_rows(stamped, self._options.publish_scores)
            self._store.commit(stamped, messages, committed_at=now)
            return messages

    def _publish(self, publications: Sequence[Publication]) -> None:
        rows = [row for publication in publications for row in publication.rows]
        with self._timed("publish"):
            now = self._clock.now_us()
            for call in ordered_calls(rows):
                self._send(call, now)
        for publication in publications:
            self._meter.published(publication.rows, publication.sent_at, now)
        with self._timed("mark"):
            self._store.mark_published(rows, published_at=now)

    def _send(self, call: Sequence[OutboxRow], now: int) -> None:
        """Send one call; what SQS refuses of it is sent again before anything that follows, so none overtakes."""
        entries = send_entries(call, published_at=now)
        for attempt in range(SEND_ATTEMPTS):
            try:
                self._outputs.send(entries)
            except QueueError as error:
                if attempt == SEND_ATTEMPTS - 1:
                    raise
                entries = [entries[i] for i in sorted(error.failures)]
                self._clock.sleep(SEND_PAUSE_SECONDS * 2**attempt)
            else:
                return

    def _delete(self, works: Sequence[CommitBatch]) -> None:
        with self._timed("delete"):
            try:
                self._inputs.delete([message.receipt_handle for work in works for message in work.batch])
            except QueueError as error:  # they come again, are known, and are deleted then
                self._meter.count("delete_refused", len(error.failures))
                _LOG.warning("messages not deleted", error=str(error))
            self._meter.finished(sum(len(work.batch) for work in works))
            self._in_flight.done([work.number for work in works])

    def _keep_hidden(self) -> None:
        """Hide for longer what is worked on for long. What is refused here is tried again at the next look."""
        now, seconds = self._clock.now_us(), self._options.visibility_seconds
        due = self._in_flight.due(now)
        if due and self._extend([receipt for receipts in due.values() for receipt in receipts], seconds):
            self._in_flight.hidden(due, now, seconds)

    def _show_again(self, receipts: Sequence[str]) -> None:
        """Let messages that a dead run held be received again now, not when their visibility ends."""
        self._extend(receipts, 0)
        self._store.forget_held()
        _LOG.info("messages of the run before are shown again", count=len(receipts))

    def _extend(self, receipts: Sequence[str], seconds: int) -> bool:
        try:
            self._inputs.extend_visibility(receipts, seconds)
        except QueueError as error:  # deleted meanwhile, or visible already
            _LOG.info("visibility not changed", error=str(error))
            return False
        return True

    def _with_recent(self, batch: Sequence[Received], known: Known) -> Known:
        """Add the ids of messages that this process has taken, which may not be committed yet, and take these."""
        messages = [message.message_id for message in batch]
        dedups = [message.dedup_id for message in batch if message.dedup_id is not None]
        recent = self._recent
        found = Known(
            known.message_ids | {id_ for id_ in messages if f"m{id_}" in recent},
            known.dedup_ids | {id_ for id_ in dedups if f"d{id_}" in recent},
        )
        recent.update(dict.fromkeys([*(f"m{id_}" for id_ in messages), *(f"d{id_}" for id_ in dedups)]))
        while len(recent) > 2 * REMEMBERED:
            recent.popitem(last=False)
        return found

    @contextmanager
    def _timed(self, step: Step) -> Iterator[None]:
        begin = self._clock.now_us()
        yield
        self._meter.took(step, (self._clock.now_us() - begin) / MICROSECONDS)
        self._after_step(step)


def _waited_us(batch: Sequence[Received]) -> int:
    """Return how long the youngest message of a batch was in the queue."""
    return batch[0].received_at - max(message.sent_at for message in batch)
