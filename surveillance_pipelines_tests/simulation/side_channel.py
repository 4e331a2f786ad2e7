"""A channel beside SQS in virtual time, and the delivery runs that serve it.

Its faults are drawn apart from those of the drain runs, and nothing here touches them: a schedule with this channel
sends the same messages to SQS at the same instants as one without.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.runtime.delivery_loop import DeliveryLoop, DeliveryOptions, DeliveryStore
from surveillance_pipelines.runtime.meter import Meter
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.runtime.retrying_stores import RetryingDeliveryStore
from surveillance_pipelines.runtime.tasks import ThreadTasks
from surveillance_pipelines.stores.lease import Lease, delivery_lease
from surveillance_pipelines.stores.outbox import OutboxRow
from surveillance_pipelines.transports.publisher import ChannelDownError, Guarantee, Publisher, PublishError
from surveillance_pipelines_tests.simulation.database import QUEUE, Database
from surveillance_pipelines_tests.simulation.faults import FaultPlan, OutageError
from surveillance_pipelines_tests.simulation.timeline import Timeline
from surveillance_pipelines_tests.simulation.world import LEASE_SECONDS, OPTIONS, Process, World

CHANNEL: Final = "side"
OUTAGE_SECONDS: Final = (0.0, 0.0, 45.0, 900.0, 3600.0)
"""How long the channel is down; an hour is longer than any stall of the drain runs."""
CALL_SECONDS: Final = (0.004, 0.004, 2.0, 30.0)
"""How long a call takes: fast, slow, longer than a lease."""
TIMEOUT_SECONDS: Final = 5.0
DELIVERY_OPTIONS: Final = DeliveryOptions(
    window=12, call_rows=5, poll_seconds=9.0, first_pause_seconds=1.0, longest_pause_seconds=60.0
)
"""A window that a schedule's rows do not fit in, and calls that the window does not fit in."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One message that the channel accepted."""

    dedup_id: str
    group_id: str
    body: str
    at: int


class SimulatedChannel:
    """A ``Publisher`` that may be slow, down for long, or refuse entries. It drops no repeated ids."""

    def __init__(self, timeline: Timeline, faults: FaultPlan) -> None:
        rng = random.Random(f"channel {faults.seed}")
        begin = timeline.now + round(rng.uniform(0.0, 120.0) * MICROSECONDS)
        self.down_from: Final = begin
        self.down_until: Final = begin + round((rng.choice(OUTAGE_SECONDS) if faults.enabled else 0.0) * MICROSECONDS)
        self.call_seconds: Final = rng.choice(CALL_SECONDS) if faults.enabled else CALL_SECONDS[0]
        self.log: Final[list[Entry]] = []
        self.guarantee: Guarantee = Guarantee(
            ordering="group",
            delivery="at_least_once",
            dedup_seconds=0.0,
            durable=True,
            keeps_group_order=rng.random() < 0.5,
            after_failover="",
        )
        self._timeline: Final = timeline
        self._faults: Final = faults
        self._seen_down = False

    @property
    def is_down(self) -> bool:
        return self.down_from <= self._timeline.now < self.down_until

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        if self.is_down:
            if not self._seen_down:
                seconds = (self.down_until - self.down_from) / MICROSECONDS
                self._faults.note(
                    f"the side channel is down for {seconds:.0f} s", f"side channel down for {seconds:.0f} s"
                )
                self._seen_down = True
            self._timeline.sleep(TIMEOUT_SECONDS)
            raise ChannelDownError("simulated")
        self._timeline.sleep(self.call_seconds)
        refused = self._faults.refused("send to the side channel", len(entries))
        failures: dict[int, str] = {}
        groups: set[str] = set()
        for i, entry in enumerate(entries):
            if i in refused or (self.guarantee.keeps_group_order and entry.group_id in groups):
                failures[i] = "simulated"
                groups.add(entry.group_id)
            else:
                self.log.append(Entry(str(entry.dedup_id), entry.group_id, entry.body, self._timeline.now))
        if failures:
            raise PublishError("simulated", failures)
        return [str(len(self.log))] * len(entries)


class MemoryDeliveryStore:
    """``delivery_loop.DeliveryStore`` over the simulated database."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self.database: Final = database
        self._lease: Final = lease

    def queues(self) -> Sequence[str]:
        return [QUEUE]

    def undelivered(self, queue_url: str, *, after: int, limit: int) -> Sequence[OutboxRow]:
        return self.database.undelivered(CHANNEL, after=after, limit=limit)

    def record(
        self, queue_url: str, rows: Sequence[OutboxRow], references: Sequence[str | None], *, at: int, cursor: int
    ) -> None:
        with self.database.transaction(self._lease):
            self.database.record_deliveries(CHANNEL, rows, at=self.database.timeline.now, cursor=cursor)
            self.database.delivery_fencing.setdefault(CHANNEL, []).append(self._lease.fencing)

    def record_failure(self, error: str, *, at: int) -> None:
        """Record nothing: the error is for people."""

    def renew(self) -> None:
        self.database.renew(self._lease)


@dataclass(frozen=True)
class DeliveryPorts:
    """What a delivery run sees of the world."""

    publisher: Publisher
    store: DeliveryStore


WrapDelivery = Callable[[World, DeliveryPorts], DeliveryPorts]


@dataclass
class DeliveryRuns:
    """``world.SideChannel``: the channel, and the runs that contend for its lease.

    Attributes:
        wrap: puts a planted bug between the loop and its ports.
        at_rest: a run has found everything delivered after the drain runs were done; no further one starts.
    """

    faults: FaultPlan
    wrap: WrapDelivery = lambda _, ports: ports
    at_rest: bool = False
    processes: int = 0
    _channel: list[SimulatedChannel] = field(default_factory=list)

    @property
    def channel(self) -> SimulatedChannel:
        return self._channel[0]

    def start(self, world: World) -> None:
        self._channel.append(SimulatedChannel(world.timeline, self.faults))
        world.timeline.at(world.timeline.now, lambda: self._contend(world))

    def _contend(self, world: World) -> None:
        if self.at_rest:
            return
        name = delivery_lease(CHANNEL)
        lease = world.database.acquire(f"delivery-{self.processes}", LEASE_SECONDS, name)
        if lease is None:
            row = world.database.leases[name]
            soon = world.timeline.now + MICROSECONDS // 2
            world.timeline.at(max(soon, row.expires_at), lambda: self._contend(world))
            return
        self.processes += 1
        process = Process(world, self.faults)
        process.threads.start("delivery", lambda: process.live(lease, self._work, self._rest))
        world.timeline.after(self.faults.restart_delay(), lambda: self._contend(world))

    def _rest(self) -> None:
        self.at_rest = True

    def _work(self, world: World, process: Process, lease: Lease) -> None:
        """Deliver with the real loop until the drain runs are done and every row is recorded."""
        store = _FaultyStore(process, MemoryDeliveryStore(world.database, lease))
        ports = self.wrap(world, DeliveryPorts(_FaultyPublisher(process, self.channel), store))
        outages = Outages(process.clock, is_outage=lambda error: isinstance(error, OutageError))
        retrying = RetryingDeliveryStore(ports.store, outages)
        loop = DeliveryLoop(
            publisher=ports.publisher,
            store=retrying,
            meter=Meter(),
            clock=process.clock,
            options=DELIVERY_OPTIONS,
        )
        tasks = ThreadTasks(process.threads)
        tasks.every("heartbeat", OPTIONS.heartbeat_seconds, retrying.renew)
        try:
            while not (world.at_rest and not loop.pending and not retrying.undelivered(QUEUE, after=0, limit=1)):
                tasks.check()
                if not loop.run_once():
                    process.clock.sleep(max(loop.pause_seconds(), 0.1))
        finally:
            tasks.abort()


@dataclass(frozen=True)
class _FaultyPublisher:
    process: Process
    channel: SimulatedChannel

    @property
    def guarantee(self) -> Guarantee:
        return self.channel.guarantee

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        try:
            return self.process.call("deliver", lambda: self.channel.send(entries))
        except OutageError as error:  # whether the channel has the messages is unknown
            raise ChannelDownError(str(error)) from error


@dataclass(frozen=True)
class _FaultyStore:
    process: Process
    store: MemoryDeliveryStore

    def queues(self) -> Sequence[str]:
        return self.store.queues()

    def undelivered(self, queue_url: str, *, after: int, limit: int) -> Sequence[OutboxRow]:
        if not self.store.undelivered(queue_url, after=after, limit=1):
            return []  # a look that finds nothing costs a schedule nothing
        return self.process.call("read outbox", lambda: self.store.undelivered(queue_url, after=after, limit=limit))

    def record(
        self, queue_url: str, rows: Sequence[OutboxRow], references: Sequence[str | None], *, at: int, cursor: int
    ) -> None:
        self.process.call(
            "record delivery", lambda: self.store.record(queue_url, rows, references, at=at, cursor=cursor)
        )

    def record_failure(self, error: str, *, at: int) -> None:
        self.store.record_failure(error, at=at)

    def renew(self) -> None:
        self.process.call("renew delivery", self.store.renew)
