"""Bugs planted in deliveries, one at a time: between the delivery loop and its ports, or in the drain run's sending."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.stores.lease import delivery_lease
from surveillance_pipelines.stores.outbox import SQS, OutboxRow
from surveillance_pipelines.transports.publisher import ChannelDownError, Guarantee, Publisher, PublishError
from surveillance_pipelines.transports.sqs import FIFO_GUARANTEE
from surveillance_pipelines_tests.simulation.side_channel import (
    CHANNEL,
    DeliveryPorts,
    DeliveryRuns,
    WrapDelivery,
)
from surveillance_pipelines_tests.simulation.world import Ports, World


@dataclass
class _Publisher:
    """A publisher that passes everything on; a bug overrides what it breaks."""

    world: World
    inner: Publisher

    @property
    def guarantee(self) -> Guarantee:
        return self.inner.guarantee

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        return self.inner.send(entries)


class _RecordsBeforeSend(_Publisher):
    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        database = self.world.database
        rows = [database.outbox[str(entry.dedup_id)].row for entry in entries]
        database.record_deliveries(CHANNEL, rows, at=self.world.timeline.now, cursor=max(row.position for row in rows))
        return super().send(entries)


class _IgnoresRefusals(_Publisher):
    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        try:
            return super().send(entries)
        except PublishError:
            return [""] * len(entries)


class _GivesUpWhileDown(_Publisher):
    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        try:
            return super().send(entries)
        except ChannelDownError:
            return [""] * len(entries)


@dataclass
class _RetriesLater(_Publisher):
    """Swallows a refusal, and sends what was refused along with the next call, behind it."""

    refused: list[SendEntry] = field(default_factory=list)

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        call = [*entries, *self.refused]
        try:
            super().send(call)
            self.refused = []
        except PublishError as error:
            self.refused = [call[i] for i in error.failures]
        return [""] * len(entries)


@dataclass
class _Store:
    """A store that passes everything on; a bug overrides what it breaks."""

    world: World
    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _SharedCursor(_Store):
    def undelivered(self, queue_url: str, *, after: int, limit: int) -> Sequence[OutboxRow]:
        return self.world.database.undelivered(SQS, after=after, limit=limit)


class _AnotherOrder(_Store):
    def undelivered(self, queue_url: str, *, after: int, limit: int) -> Sequence[OutboxRow]:
        rows = self.inner.undelivered(queue_url, after=after, limit=limit)
        return sorted(rows, key=lambda row: row.id)


@dataclass
class _SendsToBoth:
    """The drain run delivers to the side channel itself, and waits while that is down."""

    world: World
    outputs: Publisher
    guarantee: Guarantee = FIFO_GUARANTEE

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        runs = self.world.side_channel
        while isinstance(runs, DeliveryRuns) and runs.channel.is_down:
            self.world.timeline.sleep(1.0)
        return self.outputs.send(entries)


def _unfenced(world: World, ports: DeliveryPorts) -> DeliveryPorts:
    """The lease is renewed whoever holds it."""
    world.database.unfenced.add(delivery_lease(CHANNEL))
    return ports


def _publisher(bug: type[_Publisher]) -> WrapDelivery:
    return lambda world, ports: replace(ports, publisher=bug(world, ports.publisher))


def _store(bug: type[_Store]) -> WrapDelivery:
    return lambda world, ports: replace(ports, store=bug(world, ports.store))


def block_drain_run(world: World, ports: Ports) -> Ports:
    """Plant the bug of a drain run that waits for another channel."""
    return replace(ports, outputs=_SendsToBoth(world, ports.outputs))


DELIVERY_BUGS: Final[dict[str, WrapDelivery]] = {
    "cursor advanced before the send": _publisher(_RecordsBeforeSend),
    "cursor shared between channels": _store(_SharedCursor),
    "delivery without fencing": _unfenced,
    "refused row counts as delivered": _publisher(_IgnoresRefusals),
    "refused row sent behind later ones": _publisher(_RetriesLater),
    "rows given up while the channel is down": _publisher(_GivesUpWhileDown),
    "deliveries in another order": _store(_AnotherOrder),
}
"""Name → how it is planted between the delivery loop and its ports."""
