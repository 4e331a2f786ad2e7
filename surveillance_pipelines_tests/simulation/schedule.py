"""Run one seed: its market, its faults, and what is wrong afterwards."""

import logging
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from unittest.mock import patch

import structlog

from surveillance_pipelines.engine import symbol_state
from surveillance_pipelines.runtime import delivery_loop, outages, receiver, shell
from surveillance_pipelines_tests.simulation.bugs import Bug
from surveillance_pipelines_tests.simulation.faults import FaultPlan
from surveillance_pipelines_tests.simulation.invariants import (
    consume,
    delivery_violations,
    isolation_violations,
    ledger_violations,
    wire_violations,
)
from surveillance_pipelines_tests.simulation.market import MARKETS, market
from surveillance_pipelines_tests.simulation.oracle import (
    fault_free_differences,
    replay_differences,
    unjust_outcomes,
)
from surveillance_pipelines_tests.simulation.side_channel import DeliveryRuns
from surveillance_pipelines_tests.simulation.world import World, drain_worker

SNAPSHOT_BARS: Final = 3
"""Instead of 64, so that short schedules restore snapshots that are several bars old, and cross several."""

BARS_PER_CLOSE: Final = 2
"""Instead of 200, so that messages come between the bars that are due at one reading of the clock."""

_SILENCE: Final = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

ISOLATION_STRIDE: Final = 10
"""One schedule in this many is run again without the side channel, to compare what SQS got, and when."""

NO_BUG: Final = Bug()


@dataclass(frozen=True, slots=True)
class Result:
    """What one schedule came to.

    Attributes:
        violations: sentences; none if all is well.
        inputs: messages that the input queue accepted.
        seen: how often each kind of trouble occurred.
        trace: the trouble in order.
    """

    seed: int
    violations: tuple[str, ...]
    inputs: int
    outputs: int
    processes: int
    delivery_processes: int
    virtual_seconds: float
    seen: Counter[str]
    trace: tuple[str, ...]


def run_schedule(seed: int, *, bug: Bug = NO_BUG, faults: bool = True) -> Result:
    """Run a seed with the real engine, shell and delivery loop, and check everything that must hold."""
    plan = FaultPlan(seed, enabled=faults)
    delivery_plan = FaultPlan(seed, enabled=faults, name="delivery", seen=plan.seen, trace=plan.trace)
    runs = DeliveryRuns(delivery_plan, bug.wrap_delivery)
    world = World(market(seed % MARKETS), plan, drain_worker, bug.wrap, runs)
    begin = world.timeline.now
    with ExitStack() as patches:
        patches.enter_context(patch.object(symbol_state, "SNAPSHOT_BARS", SNAPSHOT_BARS))
        patches.enter_context(patch.object(shell, "BARS_PER_CLOSE", BARS_PER_CLOSE))
        for module in (shell, receiver, delivery_loop, outages):
            patches.enter_context(patch.object(module, "_LOG", _SILENCE))
        try:
            with bug.patch():
                world.run()
            violations = _violations(world) + delivery_violations(world, runs)
            if seed % ISOLATION_STRIDE == 0:
                alone = World(market(seed % MARKETS), FaultPlan(seed, enabled=faults), drain_worker, bug.wrap)
                with bug.patch():
                    alone.run()
                violations += isolation_violations(world, alone)
        except Exception as error:  # noqa: BLE001 (whatever a process dies of, the seed is to be named)
            violations = [f"{type(error).__name__}: {error}"]
    return Result(
        seed=seed,
        violations=tuple(violations),
        inputs=len(world.inputs.log),
        outputs=len(world.database.outbox),
        processes=world.processes,
        delivery_processes=runs.processes,
        virtual_seconds=(world.timeline.now - begin) / 1e6,
        seen=plan.seen,
        trace=tuple(plan.trace),
    )


@lru_cache(maxsize=MARKETS)
def fault_free(number: int) -> World:
    """Return the world of a market after a run in which nothing went wrong."""
    world = World(market(number), FaultPlan(number, enabled=False), drain_worker)
    world.run()
    return world


def _violations(world: World) -> list[str]:
    deliveries = consume(world.outputs, world)
    rows = [posted.row for posted in world.database.outbox.values()]
    found = ledger_violations(world) + wire_violations(deliveries, rows)
    found += replay_differences(world.market, world.database)
    aside = world.inputs.overtaken | world.inputs.obscured | world.hidden_groups
    found += unjust_outcomes(world.market, world.database, world.inputs.log, aside)
    found += world.misconduct
    if not world.market.clock_closes:
        clean = fault_free(world.market.number).database
        found += fault_free_differences(clean, world.database, world.inputs.overtaken)
    return found
