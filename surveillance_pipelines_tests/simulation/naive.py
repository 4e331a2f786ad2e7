"""The anchor: a worker as one writes it first. Receive, infer, send, delete; no ledger, no lease, state in memory.

It has the same engine, market, queues and faults. Without faults it is right; a restart forgets its bars and alerts,
and a message that it sees twice counts twice.
"""

from functools import lru_cache

from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.event_clock import ClockReading
from surveillance_pipelines.runtime.send_calls import ordered_calls, send_entries
from surveillance_pipelines.stores.lease import Lease
from surveillance_pipelines.stores.outbox import OutboxRow, outbox_rows
from surveillance_pipelines_tests.simulation.faults import FaultPlan
from surveillance_pipelines_tests.simulation.invariants import consume, wire_violations
from surveillance_pipelines_tests.simulation.market import MARKETS, market
from surveillance_pipelines_tests.simulation.world import (
    OPTIONS,
    Process,
    World,
    has_closed_all,
)


def naive_worker(world: World, process: Process, lease: Lease) -> None:
    """Serve with the real engine and nothing else; the lease it is given it never renews nor checks."""
    engine, ports = world.market.engine({}), process.ports(lease)

    def publish(effects: Effects) -> None:
        for call in ordered_calls(outbox_rows(effects, world.market.publish)):
            ports.outputs.send(send_entries(call, published_at=process.clock.now_us()))

    while not (world.is_served() and has_closed_all(world, engine)):
        poll = ports.inputs.poll(10, wait_seconds=OPTIONS.poll_seconds, visibility_seconds=OPTIONS.visibility_seconds)
        batch = poll.messages
        readings = engine.read(batch)
        wanted = engine.symbols_to_seed(readings)
        for symbol, seed in ports.store.history(wanted, window_length=1, feature_view=engine.feature_view).items():
            engine.seed(symbol, seed)
        publish(engine.process(readings, Known()))
        if batch:
            ports.inputs.delete([message.receipt_handle for message in batch])
        publish(engine.close_due(ClockReading(poll.answered_at), process.clock.now_us()))


def naive_violations(seed: int, *, faults: bool = True) -> list[str]:
    """Return what a consumer notices of a naive worker's schedule, against its own run without faults.

    The market is one whose clock closes no bar, so that the two runs owe each other every row.
    """
    number = seed % MARKETS // 2 * 2
    world = World(market(number), FaultPlan(seed, enabled=faults), naive_worker)
    world.run()
    return wire_violations(consume(world.outputs, world), _fault_free_rows(number))


@lru_cache(maxsize=MARKETS)
def _fault_free_rows(number: int) -> tuple[OutboxRow, ...]:
    world = World(market(number), FaultPlan(number, enabled=False), naive_worker)
    world.run()
    return tuple(OutboxRow(d.row_id, d.group_id, "anomaly", "") for d in consume(world.outputs, world))
