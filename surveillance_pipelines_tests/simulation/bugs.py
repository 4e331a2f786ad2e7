"""Bugs planted between the shell or the delivery loop and its ports, one at a time; only tests can reach them.

Each is a mistake that a live lane of this shape has been known to make, and each leaves the rest as it is.
"""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final

from surveillance_pipelines.contracts.queue import Received, SendEntry
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.snapshots import SERVING_STATE
from surveillance_pipelines.runtime.ports import Store
from surveillance_pipelines.runtime.send_calls import ordered_calls, send_entries
from surveillance_pipelines.stores.outbox import OutboxRow
from surveillance_pipelines.transports.publisher import Guarantee, Publisher
from surveillance_pipelines.transports.sqs import FIFO_GUARANTEE, QueueError
from surveillance_pipelines_tests.simulation.clock_bugs import CLOCK_BUGS
from surveillance_pipelines_tests.simulation.database import QUEUE
from surveillance_pipelines_tests.simulation.delivery_bugs import DELIVERY_BUGS, block_drain_run
from surveillance_pipelines_tests.simulation.side_channel import WrapDelivery
from surveillance_pipelines_tests.simulation.world import Ports, World

Wrap = Callable[[World, Ports], Ports]


@dataclass
class _Store:
    """A store that passes everything on; a bug overrides what it breaks."""

    ports: Ports

    def record_received(self, number: int, batch: Sequence[Received], *, done: Sequence[int]) -> Known:
        return self.ports.store.record_received(number, batch, done=done)

    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        return self.ports.store.commit(effects, messages, committed_at=committed_at, number=number)

    def acknowledge(self, effects: Effects) -> None:
        """Delete the messages that caused the effects from the input queue."""
        receipts = [row.message.receipt_handle for row in effects.inbox]
        if receipts:
            self.ports.inputs.delete(receipts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ports.store, name)


class _PublishBeforeCommit(_Store):
    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        for call in ordered_calls(messages):
            self.ports.outputs.send(send_entries(call, published_at=committed_at))
        return super().commit(effects, messages, committed_at=committed_at, number=number)


class _DeleteBeforeCommit(_Store):
    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        self.acknowledge(effects)
        return super().commit(effects, messages, committed_at=committed_at, number=number)


class _AcknowledgeOnException(_Store):
    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        try:
            return super().commit(effects, messages, committed_at=committed_at, number=number)
        except Exception:  # the bug: whatever went wrong, the messages count as done
            self.acknowledge(effects)
            raise


class _StateNotPersisted(_Store):
    """Keeps the first state of each symbol: the snapshots are written once, never again."""

    def __init__(self, world: World, ports: Ports) -> None:
        super().__init__(ports)
        self._states = world.database.feature_state

    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        new = [row for row in effects.states if (row.symbol, SERVING_STATE) not in self._states]
        return super().commit(replace(effects, states=new), messages, committed_at=committed_at, number=number)


class _OutboxNotFlushed(_Store):
    def unpublished(self) -> Sequence[OutboxRow]:
        return []


class _OutboxUnordered(_Store):
    def unpublished(self) -> Sequence[OutboxRow]:
        return sorted(self.ports.store.unpublished(), key=lambda row: row.id)


class _MarkBeforeSend(_Store):
    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        posted = super().commit(effects, messages, committed_at=committed_at, number=number)
        if posted:
            self.ports.store.mark_published(posted, published_at=committed_at)
        return posted


class _OutboxInItsOwnTransaction(_Store):
    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        super().commit(effects, [], committed_at=committed_at, number=2 * number)
        return super().commit(Effects(), messages, committed_at=committed_at, number=2 * number + 1)


class _LedgerNotConsulted(_Store):
    def record_received(self, number: int, batch: Sequence[Received], *, done: Sequence[int]) -> Known:
        super().record_received(number, batch, done=done)
        return Known()


@dataclass
class _RandomIds:
    """Gives every sending an id of its own; drawn from process and count, so that a seed stays a seed."""

    outputs: Publisher
    process: int
    sent: int = 0
    guarantee: Guarantee = FIFO_GUARANTEE

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        self.sent += 1
        names = [f"{entry.dedup_id} {self.process} {self.sent}" for entry in entries]
        return self.outputs.send(
            [replace(e, dedup_id=str(uuid.uuid5(uuid.NAMESPACE_OID, n))) for e, n in zip(entries, names, strict=True)]
        )


@dataclass
class _RetriesLater:
    """Swallows a partial failure, and sends what was refused along with the next call, behind it."""

    outputs: Publisher
    refused: list[SendEntry] = field(default_factory=list)
    guarantee: Guarantee = FIFO_GUARANTEE

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        waiting, self.refused = self.refused, []
        call = [*entries, *waiting]
        try:
            return self.outputs.send(call)
        except QueueError as error:
            self.refused = [call[i] for i in error.failures]
            return []


class _SwapNotRecorded(_Store):
    """The first bundle of a process is on record, a swap is not."""

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports)
        self._commits = 0

    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        self._commits += 1
        recorded = effects if self._commits == 1 else replace(effects, bundles=[])
        return super().commit(recorded, messages, committed_at=committed_at, number=number)


@dataclass
class _Overtakes:
    """Lets a call overtake the one before it: publication by several threads without an order between them."""

    outputs: Publisher
    held: list[SendEntry] = field(default_factory=list)
    guarantee: Guarantee = FIFO_GUARANTEE

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        if self.held:
            held, self.held = self.held, []
            return [*self.outputs.send(entries), *self.outputs.send(held)]
        self.held = list(entries)
        return []


def _no_fencing(world: World, ports: Ports) -> Ports:
    """The lease is renewed whoever holds it: `UPDATE ops.leases … WHERE queue_url = …` and nothing more."""
    world.database.unfenced.add(QUEUE)
    return ports


def _ledger_not_consulted(world: World, ports: Ports) -> Ports:
    """… and the insert that would notice says ON CONFLICT DO NOTHING."""
    world.database.checks_keys = False
    return replace(ports, store=_as_store(_LedgerNotConsulted(ports)))


def _as_store(store: Any) -> Store:
    return store


def _store_bug(bug: Callable[[Ports], _Store]) -> Wrap:
    return lambda _, ports: replace(ports, store=_as_store(bug(ports)))


@dataclass(frozen=True)
class Bug:
    """How a bug is planted: in front of the drain run's ports, of the delivery run's, or in the code itself."""

    wrap: Wrap = lambda _, ports: ports
    wrap_delivery: WrapDelivery = lambda _, ports: ports
    patch: Callable[[], AbstractContextManager[object]] = nullcontext


_DRAIN_BUGS: Final[dict[str, Wrap]] = {
    "publish before commit": _store_bug(_PublishBeforeCommit),
    "delete before commit": _store_bug(_DeleteBeforeCommit),
    "no fencing check": _no_fencing,
    "ledger not consulted": _ledger_not_consulted,
    "random deduplication id": lambda world, ports: replace(ports, outputs=_RandomIds(ports.outputs, world.processes)),
    "state not persisted": lambda world, ports: replace(ports, store=_as_store(_StateNotPersisted(world, ports))),
    "outbox not flushed on start": _store_bug(_OutboxNotFlushed),
    "mark before send": _store_bug(_MarkBeforeSend),
    "acknowledge on exception": _store_bug(_AcknowledgeOnException),
    "refused entries sent later": lambda _, ports: replace(ports, outputs=_RetriesLater(ports.outputs)),
    "outbox in another transaction": _store_bug(_OutboxInItsOwnTransaction),
    "outbox read in another order": _store_bug(_OutboxUnordered),
    "publication overtakes itself": lambda _, ports: replace(ports, outputs=_Overtakes(ports.outputs)),
    "swap not recorded": _store_bug(_SwapNotRecorded),
    "dead channel blocks the drain run": block_drain_run,
}

BUGS: Final[dict[str, Bug]] = {
    **{name: Bug(wrap=wrap) for name, wrap in _DRAIN_BUGS.items()},
    **{name: Bug(wrap_delivery=wrap) for name, wrap in DELIVERY_BUGS.items()},
    **{name: Bug(patch=patch) for name, patch in CLOCK_BUGS.items()},
}
"""Name → how it is planted."""
