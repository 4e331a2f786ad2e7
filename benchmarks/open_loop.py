"""Latency of messages from the input queue to publication at a fixed rate, in open loop."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.harness import PINNED
from benchmarks.live_lane import Lane, random_ticks
from benchmarks.traffic import LEAD_US, produce
from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.services.endpoints import child_environment

SECONDS: Final = 6.0
LONGEST_WAIT: Final = 120.0
_WARM: Final = 10
_TOOK: Final = """
    SELECT extract(epoch FROM min(d.delivered_at) - i.sent_at)::float8 * 1000
    FROM ops.inbox i JOIN ops.outbox o ON o.body::jsonb ->> 'correlation_id' = i.message_id
    JOIN ops.outbox_deliveries d ON d.position = o.position AND d.channel = 'sqs'
    WHERE i.message_id = ANY(%s) GROUP BY i.message_id, i.sent_at
"""
_SPAN: Final = (
    "SELECT extract(epoch FROM max(sent_at) - min(sent_at))::float8 FROM ops.inbox WHERE message_id = ANY(%s)"
)


@dataclass(frozen=True, slots=True)
class Load:
    """Messages per second, and messages per call."""

    rate: float
    per_call: int
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class Point:
    """The result of one load; ``rate`` is the rate reached by the producer."""

    rate: float
    p50_ms: float
    p99_ms: float


def latency_at(lane: Lane, load: Load, folder: Path) -> Point:
    """Serve a load with a drain run in a separate process, and return the latency of its messages.

    Args:
        lane: fresh, its queue empty.
        load: what comes.
        folder: for the run's log.
    """
    queue, symbols = lane.inputs[0], lane.settings.symbols
    with drain_process(lane, folder / "drain.log") as check:
        # A message with a later event time would advance the event clock and close the bars of the load's ticks.
        warm = produce(queue, _ticks(_WARM, 1_000.0, symbols), "warm", per_call=_WARM)
        _published(lane, warm, check)
        ids = produce(
            queue, _ticks(round(load.rate * load.seconds), load.rate, symbols), "load", per_call=load.per_call
        )
        took = _published(lane, ids, check)
    ((span,),) = lane.query(_SPAN, ids)
    calls = len(ids) / load.per_call
    return Point(len(ids) / span * (calls - 1) / calls, *np.percentile(took, (50, 99)).tolist())


@contextmanager
def drain_process(lane: Lane, log: Path) -> Iterator[Callable[[], None]]:
    """Run a drain run without Dagster; yield a function that raises if the run has ended."""
    settings = lane.settings
    environment = {
        **os.environ, **PINNED, **child_environment(lane.endpoints), "SYMBOLS": ",".join(settings.symbols),
        "PUBLISH_SCORES": settings.publish_scores, "DRAIN_WINDOW_SECONDS": "600", "DRAIN_IDLE_SECONDS": "600",
        "SQS_WAIT_TIME": "1", "LOG_LEVEL": "ERROR",
    }  # fmt: skip
    command = [sys.executable, "-m", "surveillance_pipelines.services.drain"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=log.parent, env=environment, stdout=output, stderr=output)

    def check() -> None:
        if process.poll() is not None:
            raise RuntimeError(f"expected the drain run to serve, it has ended: {log.read_text()[-2000:]}")

    try:
        yield check
    finally:
        process.terminate()
        process.wait(timeout=LONGEST_WAIT)


def _ticks(number: int, rate: float, symbols: tuple[str, ...]) -> list[Tick]:
    begin = SYSTEM_CLOCK.now_us() + LEAD_US
    return random_ticks(number, begin_us=begin, step_us=round(MICROSECONDS / rate), symbols=symbols)


def _published(lane: Lane, ids: list[str], check: Callable[[], None]) -> list[float]:
    """Wait until each message has a published row, and return the latencies in milliseconds."""
    deadline = SYSTEM_CLOCK.now_us() + round(LONGEST_WAIT * MICROSECONDS)
    while len(took := [value for (value,) in lane.query(_TOOK, ids)]) < len(ids):
        check()
        if SYSTEM_CLOCK.now_us() > deadline:
            raise TimeoutError(f"expected {len(ids)} messages published within {LONGEST_WAIT:.0f} s, was {len(took)}")
        SYSTEM_CLOCK.sleep(0.5)
    return took
