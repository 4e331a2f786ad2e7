"""Run one seed: its market, its faults, and what is wrong afterwards."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from unittest.mock import patch

import structlog

from surveillance_pipelines.engine import symbol_state as symbol_lane
from surveillance_pipelines.runtime import shell
from surveillance_pipelines_tests.simulation.faults import FaultPlan
from surveillance_pipelines_tests.simulation.invariants import consume, ledger_violations, wire_violations
from surveillance_pipelines_tests.simulation.market import MARKETS, market
from surveillance_pipelines_tests.simulation.oracle import fault_free_differences, replay_differences
from surveillance_pipelines_tests.simulation.world import Ports, World, drain_worker

SNAPSHOT_BARS: Final = 3
"""Instead of 64, so that short schedules restore snapshots that are several bars old, and cross several."""

_SILENCE: Final = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

Wrap = Callable[[World, Ports], Ports]


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
    virtual_seconds: float
    seen: Counter[str]
    trace: tuple[str, ...]


def run_schedule(seed: int, *, wrap: Wrap = lambda _, ports: ports, faults: bool = True) -> Result:
    """Run a seed with the real engine and shell, and check everything that must hold."""
    plan = FaultPlan(seed, enabled=faults)
    world = World(market(seed % MARKETS), plan, drain_worker, wrap)
    begin = world.timeline.now
    with patch.object(symbol_lane, "SNAPSHOT_BARS", SNAPSHOT_BARS), patch.object(shell, "_LOG", _SILENCE):
        try:
            world.run()
            violations = _violations(world)
        except Exception as error:  # noqa: BLE001 (whatever a process dies of, the seed is to be named)
            violations = [f"{type(error).__name__}: {error}"]
    return Result(
        seed=seed,
        violations=tuple(violations),
        inputs=len(world.inputs.log),
        outputs=len(world.database.outbox),
        processes=world.processes,
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
    if not world.market.clock_closes:
        clean = fault_free(world.market.number).database
        found += fault_free_differences(clean, world.database, world.inputs.overtaken)
    return found
