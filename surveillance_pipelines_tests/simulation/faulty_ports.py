"""What a simulated process sees of the queues, the database and the promotions; a fault may strike each call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.queue import Poll, Received, SendEntry
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.engine import Swap
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.stores.lease import Lease
from surveillance_pipelines.stores.outbox import OutboxRow
from surveillance_pipelines.transports.publisher import Guarantee
from surveillance_pipelines.transports.sqs import FIFO_GUARANTEE
from surveillance_pipelines_tests.simulation.scorer import TinyPredictor
from surveillance_pipelines_tests.simulation.store import MemoryStore

if TYPE_CHECKING:
    from surveillance_pipelines_tests.simulation.world import Process, World


@dataclass(frozen=True)
class FaultyInputs:
    process: "Process"
    lease: Lease

    def poll(self, max_messages: int, *, wait_seconds: int, visibility_seconds: int) -> Poll:
        process, world = self.process, self.process.world
        process.watch_intake()

        def receive() -> Poll:
            poll = process.receive(max_messages, wait_seconds, visibility_seconds)
            row = world.database.leases.get(self.lease.name)
            if row is None or row.fencing != self.lease.fencing:
                world.hidden_groups.update(message.group_id for message in poll.messages)
            process.watch_slow(poll)
            return poll

        return process.ask_queue("receive", receive, on_lost=process.watch_lost)

    def probe(self) -> None:
        self.process.ask_queue("probe", lambda: None)

    def delete(self, receipts: Sequence[str]) -> None:
        self.process.ask_queue("delete", lambda: self.process.world.inputs.delete(receipts))

    def extend_visibility(self, receipts: Sequence[str], seconds: int) -> None:
        self.process.ask_queue("extend", lambda: self.process.world.inputs.extend_visibility(receipts, seconds))


@dataclass(frozen=True)
class FaultyOutputs:
    process: "Process"
    guarantee: Guarantee = FIFO_GUARANTEE

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        return self.process.call("send", lambda: self.process.world.outputs.send(entries))


@dataclass(frozen=True)
class FaultyStore:
    process: "Process"
    store: MemoryStore

    def record_received(self, number: int, batch: Sequence[Received], *, done: Sequence[int]) -> Known:
        return self.process.ask_database(
            "record_received", lambda: self.store.record_received(number, batch, done=done)
        )

    def held_before(self) -> Sequence[str]:
        return self.process.ask_database("held_before", self.store.held_before)

    def hidden_seconds(self) -> int:
        return self.process.ask_database("hidden_seconds", self.store.hidden_seconds)

    def record_hidden(self, seconds: int) -> None:
        self.process.ask_database("record_hidden", lambda: self.store.record_hidden(seconds))

    def forget_held(self) -> None:
        self.process.ask_database("forget_held", self.store.forget_held)

    def served(self) -> Mapping[str, Seed]:
        return self.process.ask_database("served", self.store.served)

    def history(self, symbols: Mapping[str, int], *, window_length: int, feature_view: str) -> Mapping[str, Seed]:
        return self.process.ask_database(
            "history", lambda: self.store.history(symbols, window_length=window_length, feature_view=feature_view)
        )

    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        return self.process.ask_database(
            "commit", lambda: self.store.commit(effects, messages, committed_at=committed_at, number=number)
        )

    def unpublished(self) -> Sequence[OutboxRow]:
        return self.process.ask_database("unpublished", self.store.unpublished)

    def mark_published(self, rows: Sequence[OutboxRow], *, published_at: int) -> None:
        self.process.ask_database("mark", lambda: self.store.mark_published(rows, published_at=published_at))

    def renew(self) -> None:
        self.process.ask_database("renew", self.store.renew)


class Promotions:
    """Newly promoted models, as ``BundleWatch`` gives them."""

    def __init__(self, world: "World") -> None:
        self._world: Final = world
        self._serving = world.champion

    def claim(self) -> Swap | None:
        if self._serving == self._world.champion:
            return None
        self._serving = self._world.champion
        self._world.faults.note(f"bundle {self._serving} is swapped in", "bundle swapped while serving")
        return Swap(TinyPredictor(self._serving))
