"""Waiting messages drained by a drain run for each queue: time, CPU of the runs, and conservation of the messages."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import psutil

from benchmarks.conservation import OutputReader, Stored, violations
from benchmarks.drain_processes import Runs, wait_for
from benchmarks.harness import machine_facts
from benchmarks.live_lane import DRAINED, Lane, make_lane
from benchmarks.models import ProofModels
from benchmarks.waiting_messages import Planned, calls, plan_backlog
from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.embedded.services import EmbeddedServices
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.transports.queue_routing import queue_for_symbol

SYMBOLS_PER_QUEUE: Final = 50
FIRST_TO_LAST: Final = """
    SELECT extract(epoch FROM (SELECT max(committed_at) FROM ops.ledger) - (SELECT min(received_at) FROM ops.inbox))
"""
"""Seconds from the first message received to the last outcome committed."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The result of one load.

    Attributes:
        queues: number of queues, each with a drain run.
        sent: messages on all queues.
        outcomes: messages by outcome.
        dead_letters: messages by code of refusal.
        rows: rows that the consumer read.
        runs: started drain runs; more than ``queues`` if one ended and was started again.
        seconds: from the first message received to the last outcome committed.
        cpu_ms: CPU time of the drain runs per message, in milliseconds, from the time when each holds its queue.
        violations: number of violations of each promise of conservation.
    """

    queues: int
    sent: int
    outcomes: dict[str, int]
    dead_letters: dict[str, int]
    rows: int
    runs: int
    seconds: float
    cpu_ms: float
    violations: dict[str, int]

    @property
    def per_second(self) -> float:
        return self.sent / self.seconds

    @property
    def is_sound(self) -> bool:
        """Return whether each message has its planned outcome and rows, and the outcomes add up."""
        return not any(self.violations.values()) and self.sent == sum(self.outcomes.values())

    @property
    def sentence(self) -> str:
        outcomes = " + ".join(f"{number:,} {name}" for name, number in self.outcomes.items())
        wrong = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in self.violations.items() if number)
        return (
            f"{self.sent:,} sent = {outcomes}; {len(self.dead_letters)} codes of dead letters, {self.rows:,} rows read;"
            f" {wrong or 'no violation'}; {self.per_second:,.0f} messages/s, {self.cpu_ms:.2f} ms CPU per message, "
            f"{self.runs} runs"
        )


class RunCpu:
    """CPU seconds of drain runs while they hold a queue. Start and imports are not included."""

    def __init__(self, process: Callable[[str], psutil.Process]) -> None:
        self._process: Final = process
        self._first: Final[dict[str, float]] = {}
        self._last: Final[dict[str, float]] = {}

    def look(self, holders: Sequence[str]) -> None:
        """Read the CPU time of the holders."""
        for run_id in holders:
            with suppress(psutil.NoSuchProcess):  # a run may end between the two calls
                times = self._process(run_id).cpu_times()
                self._last[run_id] = times.user + times.system
                self._first.setdefault(run_id, self._last[run_id])

    @property
    def seconds(self) -> float:
        return sum(self._last[run_id] - self._first[run_id] for run_id in self._last)


def drain_queues(
    found: EmbeddedServices, folder: Path, models: ProofModels, sizes: Sequence[int], *, name: str
) -> Drain:
    """Fill one queue per size, drain all at once, and compare the outcome with the plan.

    Args:
        found: running services.
        folder: for the lane's files; must exist.
        models: to promote.
        sizes: number of messages of each queue.
        name: for the progress output.
    """
    lane = make_lane(found, folder, models, queues=len(sizes), publish_scores="all", log_level="WARNING")
    symbols = symbols_by_queue(lane.endpoints.queue_urls)
    sent: dict[str, Planned] = {}
    end_us = SYSTEM_CLOCK.now_us() // MINUTE_US * MINUTE_US
    for number, (url, size) in enumerate(zip(lane.endpoints.queue_urls, sizes, strict=True)):
        planned = plan_backlog(size, symbols[url], end_us=end_us, name=f"queue-{number}", seed=number)
        sent |= send(lane, url, planned)
    print(f"  {name}: {len(sent):,} messages wait", flush=True)
    logs = lane.settings.surveillance_home
    logs.mkdir(exist_ok=True)
    served = ",".join(symbol for group in symbols.values() for symbol in group)
    runs, reader = Runs(lane, logs, DRAIN_WINDOW_SECONDS="100000", SYMBOLS=served), OutputReader(lane.outputs)
    try:
        with reader.running():
            cpu = _serve(lane, runs, len(sent), name)
            ((seconds,),) = lane.query(FIRST_TO_LAST)
            bars = len({planned.bar for planned in sent.values()} - {None})
            wait_for(lambda: reader.closed_bars, bars, what=f"{name}, closed bars")
    finally:
        runs.end()
    return _result(lane, sent, reader, runs=runs.started, seconds=float(seconds), cpu=cpu)


def symbols_by_queue(urls: Sequence[str]) -> dict[str, list[str]]:
    """Return ``SYMBOLS_PER_QUEUE`` symbols for each queue, by the rule of the producer contract."""
    symbols: dict[str, list[str]] = {url: [] for url in urls}
    for number in count():
        symbol = f"SIM{number}"
        group = symbols[queue_for_symbol(symbol, urls)]
        if len(group) < SYMBOLS_PER_QUEUE:
            group.append(symbol)
        if all(len(group) == SYMBOLS_PER_QUEUE for group in symbols.values()):
            return symbols
    raise AssertionError


def send(lane: Lane, url: str, planned: Sequence[Planned]) -> dict[str, Planned]:
    """Send messages in calls within the limits of SQS; return them by the ids that SQS gave them."""
    queue, sent = lane.queue(url), {}
    for call in calls(planned):
        sent |= zip(queue.send([message.entry for message in call]), call, strict=True)
    queue.close()
    if len(sent) != len(planned):
        raise RuntimeError(f"expected SQS to give {len(planned):,} ids, got {len(sent):,}")
    return sent


def _serve(lane: Lane, runs: Runs, messages: int, name: str) -> float:
    """Start a run for each queue, again if it ends, until all messages are drained; return the runs' CPU seconds."""
    cpu = RunCpu(runs.process)
    with connect(lane.endpoints.database_url, autocommit=True) as connection:

        def drained() -> int:
            for url in lane.endpoints.queue_urls:
                _ = runs.count(url) == 0 and runs.start(url)  # as the sensor does
            holders = connection.execute("SELECT run_id FROM ops.leases WHERE role = 'holder' AND run_id IS NOT NULL")
            cpu.look([run_id for (run_id,) in holders.fetchall()])
            (done,) = connection.execute("SELECT count(*) FROM ops.ledger").fetchone() or (0,)
            published = done < messages or connection.execute(DRAINED, (messages,)).fetchone() == (True,)
            return done if published else messages - 1

        wait_for(drained, messages, what=name)
    return cpu.seconds


def _result(
    lane: Lane, sent: dict[str, Planned], reader: OutputReader, *, runs: int, seconds: float, cpu: float
) -> Drain:
    stored = Stored.of(lane)
    codes = sorted(row.code for row in stored.dead_letters)
    return Drain(
        queues=len(lane.inputs),
        sent=len(sent),
        outcomes=stored.outcomes(),
        dead_letters={code: codes.count(code) for code in sorted(set(codes))},
        rows=len(reader.rows),
        runs=runs,
        seconds=seconds,
        cpu_ms=1e3 * cpu / len(sent),
        violations=violations(sent, stored, reader.rows),
    )


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def load_sentence() -> str:
    """Return cores and load average; other work on the machine shows in every figure but the counts."""
    facts = machine_facts()
    return f"load average {facts['load']} on {facts['cores']} cores at the end"
