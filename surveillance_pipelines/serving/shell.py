"""The thin shell around the engine: receive, load, process, commit, publish, mark, delete. Each step is one function.

A crash between any two steps loses nothing and repeats no effect: before ``commit`` nothing happened; after it the
inputs are known by their ledger rows, and what was not published or marked is published again with the same id.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from surveillance_pipelines.clock import MICROSECONDS, Clock
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.serving.effects import Effects, Known
from surveillance_pipelines.serving.engine import Engine
from surveillance_pipelines.serving.meter import Meter, Published
from surveillance_pipelines.serving.outbox import OutboxRow, PublishScores, ordered_calls, outbox_rows, send_entries
from surveillance_pipelines.serving.ports import InputQueue, OutputQueue, Store

Step = Literal["receive", "load", "process", "commit", "publish", "mark", "delete"]
AfterStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class ShellOptions:
    """How the shell receives and publishes."""

    max_messages: int
    visibility_seconds: int
    publish_scores: PublishScores


class Shell:
    """Carries messages between the queues, the store and the engine."""

    def __init__(
        self,
        *,
        inputs: InputQueue,
        outputs: OutputQueue,
        store: Store,
        engine: Engine,
        meter: Meter,
        clock: Clock,
        options: ShellOptions,
        after_step: AfterStep = lambda _: None,
    ) -> None:
        self._inputs: Final = inputs
        self._outputs: Final = outputs
        self._store: Final = store
        self._engine: Final = engine
        self._meter: Final = meter
        self._clock: Final = clock
        self._options: Final = options
        self._after_step: Final = after_step

    def start(self) -> None:
        """Publish what a run before left unpublished, and take every symbol up where it stands.

        Raises:
            LeaseLostError: if loading has taken so long that another run took over.
        """
        self._store.renew()
        while leftover := self._store.unpublished():
            self.mark(self.publish(leftover))
        for symbol, seed in self._store.served().items():
            self._engine.seed(symbol, seed)

    def turn(self, wait_seconds: int) -> int:
        """Receive one micro-batch, carry it through, let the clock close bars; return how many messages came.

        The clock closes bars only when the queue gave fewer messages than asked: in a backlog, groups arrive unevenly,
        and the ticks that a bar still waits for are in the queue.
        """
        batch = self.receive(wait_seconds)
        if batch:
            known = self.load(batch)
            effects = self.process(batch, known)
            published = self.carry_out(effects)
            self.delete(batch)
            self._meter.delivered(batch, effects, published)
        else:
            self._store.renew()
        if len(batch) < self._options.max_messages:
            self.close_due_bars()
        return len(batch)

    def close_due_bars(self) -> None:
        """Read the event clock, and carry out what it closes."""
        effects = self._engine.tick_clock(self._clock.now_us())
        if not effects.is_empty():
            self.carry_out(effects)
            self._meter.clock_closed(effects)

    def carry_out(self, effects: Effects) -> Published | None:
        """Make effects durable, then publish them; return what was published, None if nothing was."""
        messages = self.commit(effects)
        if not messages:
            return None
        published = self.publish(messages)
        self.mark(published)
        return published

    def receive(self, wait_seconds: int) -> list[Received]:
        batch = self._inputs.receive(
            self._options.max_messages,
            wait_seconds=wait_seconds,
            visibility_seconds=self._options.visibility_seconds,
        )
        if batch:
            self._after_step("receive")
        return batch

    def load(self, batch: Sequence[Received]) -> Known:
        """Look up which ids are done, and seed the symbols that the engine does not hold, or that miss a session."""
        with self._timed("load"):
            known = self._store.known(batch)
            for _ in range(2):  # a symbol that is new may miss a session later in the batch
                wanted = self._engine.symbols_to_seed(batch)
                if not wanted:
                    break
                for symbol, seed in self._store.history(wanted).items():
                    self._engine.seed(symbol, seed)
            return known

    def process(self, batch: Sequence[Received], known: Known) -> Effects:
        with self._timed("process"):
            effects = self._engine.process(batch, known)
            effects.computed_at = self._clock.now_us()
            return effects

    def commit(self, effects: Effects) -> list[OutboxRow]:
        """Make effects durable and return the messages they publish; a batch without any keeps the lease alive."""
        if effects.is_empty():
            self._store.renew()
            return []
        with self._timed("commit"):
            now = self._clock.now_us()
            stamped = effects.stamped(committed_at=now)
            messages = outbox_rows(stamped, self._options.publish_scores)
            self._store.commit(stamped, messages, committed_at=now)
            return messages

    def publish(self, messages: Sequence[OutboxRow]) -> Published:
        """Send messages, and return which went when; a call that is not accepted whole ends it, so none overtakes."""
        with self._timed("publish"):
            now = self._clock.now_us()
            for call in ordered_calls(messages):
                self._outputs.send(send_entries(call, published_at=now))
            self._meter.published(len(messages))
            return Published(frozenset(row.id for row in messages), now)

    def mark(self, published: Published) -> None:
        """Record that messages were sent."""
        with self._timed("mark"):
            self._store.mark_published(sorted(published.ids), published_at=published.at)

    def delete(self, batch: Sequence[Received]) -> None:
        with self._timed("delete"):
            self._inputs.delete([message.receipt_handle for message in batch])

    @contextmanager
    def _timed(self, step: Step) -> Iterator[None]:
        begin = self._clock.now_us()
        yield
        self._meter.took(step, (self._clock.now_us() - begin) / MICROSECONDS)
        self._after_step(step)
