"""P3: throughput of one drain run, and of a bare loop that receives, sends and deletes."""

import os
import signal
import statistics
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import psutil

from benchmarks.harness import Comparison, Curve, Goal, Parity, prove
from benchmarks.live_lane import DRAINED, Lane, entries, make_lane, random_ticks, services
from benchmarks.models import SYMBOLS, ProofModels, proof_models
from benchmarks.open_loop import Load, latency_at
from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.embedded.services import EmbeddedServices
from surveillance_pipelines.runtime.drain import drain
from surveillance_pipelines.runtime.meter import DrainReport
from surveillance_pipelines.runtime.shell import Step
from surveillance_pipelines.stores.database import connect

MESSAGES: Final = 2_000
PARITY_MESSAGES: Final = 200
MANY: Final = tuple(f"SIM{i}" for i in range(40))
MANY_ROUNDS: Final = 3
RATES: Final = (50, 200, 400, 800)
LONGEST_WINDOW: Final = 120.0
"""Time limit of a drain run; if it has not processed all messages by then, the round fails."""

_LOOK_SECONDS: Final = 0.1
_STEPS: Final = ("load", "process", "commit", "publish", "mark", "delete")
_NOTES: Final = (
    (
        f"each arm of a round takes {MESSAGES:,} messages that already wait, in batches of 10, from queues and a "
        "database of its own: the emulator slows down as the ids of the last five minutes pile up"
    ),
    (
        "time from the first batch received to the last message published, marked and deleted; ours scores, keeps "
        "ledger, inbox, outbox and state in PostgreSQL, and publishes at least one message for each"
    ),
    (
        "the queue server is one process of Python on the same cores as the arms; SQS itself would wait for the "
        "network, not for a core"
    ),
    (
        "in the curves, messages arrive in open loop (one by one up to 100 a second, above that ten in a call); "
        "latency is SQS's SentTimestamp to publication, which is the instant before the call that sends; x is the rate "
        "that the producer reached"
    ),
    "with 40 symbols a batch of 10 locks a quarter of the groups instead of all, so steps of batches can overlap",
    (
        "profile: a batch of 10 symbols closes all groups until it is deleted, so receive, load, process, commit and "
        "delete of a batch follow one another, and only publication overlaps; the CPU time of all three processes "
        "(…_ms_per_10) on two cores is the floor, and the goal's share of it is more than there is"
    ),
    (
        "attempts, kept: no look ahead where it finds nothing, which saves a call a batch; rows dealt to as few sends "
        "as keep the order; publications together; a message decoded once"
    ),
    (
        "attempts, dropped: a switch interval of Python's lock of 0.5 and of 0.1 ms instead of 5 (no difference beyond "
        "the rounds' own)"
    ),
)


@dataclass
class Finish:
    """Stops a drain run once all messages are processed, and measures the time."""

    lane: Lane
    messages: int
    cpu_seconds: Callable[[], dict[str, float]]
    _steps: list[float] = field(default_factory=list)
    _before: dict[str, float] = field(default_factory=dict)

    def after(self, step: Step) -> None:
        """Record the time of a step; the first is the receipt of a batch."""
        del step
        if not self._steps:
            self._before = self.cpu_seconds()
        self._steps.append(SYSTEM_CLOCK.now_us() / MICROSECONDS)

    @property
    def seconds(self) -> float:
        return max(self._steps) - self._steps[0]

    @property
    def spent(self) -> dict[str, float]:
        """Return the CPU seconds of all processes since the receipt of the first batch."""
        after = self.cpu_seconds()
        return {name: after[name] - self._before[name] for name in after}

    def watch(self, ended: threading.Event) -> None:
        """Send SIGTERM to this process once all messages are in the ledger and published."""
        with connect(self.lane.endpoints.database_url, autocommit=True) as connection:
            while not ended.wait(_LOOK_SECONDS):
                row = connection.execute(DRAINED, (self.messages,)).fetchone()
                if row == (True,):
                    os.kill(os.getpid(), signal.SIGTERM)
                    return


class Bench:
    """Both arms over one queue server and one PostgreSQL."""

    def __init__(self, found: EmbeddedServices, folder: Path, models: ProofModels) -> None:
        self._found = found
        self._folder = folder
        self._models = models
        self.seconds: list[float] = []
        self.anchor_seconds: list[float] = []
        self._cpu: list[dict[str, float]] = []
        self._anchor_cpu: list[dict[str, float]] = []
        self.reports: list[DrainReport] = []

    def lane(self, messages: int, symbols: Sequence[str] = SYMBOLS) -> Lane:
        """Return new queues that contain messages, and a new database."""
        lane = make_lane(
            self._found, self._folder, self._models, symbols=symbols, publish_scores="all", sqs_wait_time=1,
            log_level="ERROR",
        )  # fmt: skip
        begin = SYSTEM_CLOCK.now_us() - (messages + 60) * MICROSECONDS
        lane.inputs[0].send(entries(random_ticks(messages, begin_us=begin, symbols=symbols)))
        return lane

    def carried(self, lane: Lane, messages: int) -> tuple[Finish, DrainReport]:
        """Process all messages with one drain run; return the seconds and its report."""
        finish, ended = Finish(lane, messages, self._cpu_seconds), threading.Event()
        watch = threading.Thread(target=finish.watch, args=(ended,))
        watch.start()
        try:
            report = drain(
                lane.endpoints, lane.settings, lane.endpoints.queue_urls[0], window_seconds=LONGEST_WINDOW,
                after_step=finish.after,
            )  # fmt: skip
        finally:
            ended.set()
            watch.join()
        if report.totals.get("scored") != messages or report.totals["published"] < messages:
            raise RuntimeError(f"expected {messages} messages scored and published, was {report.totals}")
        return finish, report

    def ours(self) -> float:
        finish, report = self.carried(self.lane(MESSAGES), MESSAGES)
        self._cpu.append(finish.spent)
        self.reports.append(report)
        self.seconds.append(finish.seconds / MESSAGES)
        return self.seconds[-1]

    def anchor(self) -> float:
        lane = self.lane(MESSAGES)
        before = self._cpu_seconds()
        seconds = bare(lane, MESSAGES)
        after = self._cpu_seconds()
        self._anchor_cpu.append({name: after[name] - before[name] for name in after})
        self.anchor_seconds.append(seconds / MESSAGES)
        return self.anchor_seconds[-1]

    def parity(self) -> Parity:
        """Compare the work on the queues, because the anchor has no model."""
        depths: list[tuple[int, int]] = []
        arms: list[Callable[[Lane, int], object]] = [self.carried, bare]
        for arm in arms:
            lane = self.lane(PARITY_MESSAGES)
            arm(lane, PARITY_MESSAGES)
            depths.append((lane.inputs[0].depth().total, lane.outputs.depth().total))
        (left, ours), (anchor_left, theirs) = depths
        return Parity(
            passed=left == anchor_left == 0 and ours >= theirs == PARITY_MESSAGES,
            statement=f"of {PARITY_MESSAGES} messages none is left on either input queue; published: ours {ours} (each "
            f"message's score, scores of closed bars, alerts), anchor {theirs}",
        )

    def figures(self) -> Mapping[str, float]:
        report = self.reports[-1]
        many, many_report, many_anchor = self._many()
        return {
            "messages_per_second": 1 / statistics.median(self.seconds[1:]),
            "anchor_messages_per_second": 1 / statistics.median(self.anchor_seconds[1:]),
            "published_per_message": report.totals["published"] / MESSAGES,
            **_steps(report, ""),
            **_per_ten(self._cpu, "cpu_"),
            **_per_ten(self._anchor_cpu, "anchor_cpu_"),
            "40_symbols_ratio_min": min(b / a for a, b in zip(many, many_anchor, strict=True)),
            "40_symbols_messages_per_second": MESSAGES / statistics.median(many),
            "40_symbols_anchor_messages_per_second": MESSAGES / statistics.median(many_anchor),
            **_steps(many_report, "40_symbols_"),
        }

    def curves(self) -> list[Curve]:
        loads = [Load(rate, per_call=1 if rate <= 100 else 10) for rate in RATES]
        points = [latency_at(self.lane(0), load, self._folder) for load in loads]
        rates = [round(point.rate, 1) for point in points]
        unit = ("messages a second, open loop", "queue to publication, ms")
        return [
            Curve("Median", *unit, rates, [point.p50_ms for point in points]),
            Curve("99th percentile", *unit, rates, [point.p99_ms for point in points]),
        ]

    def _cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds of this process, which runs the arm, and of both servers."""
        found = {"arm": psutil.Process()}
        for name, server in (("queue_server", self._found.queue), ("postgresql", self._found.postgres)):
            found[name] = psutil.Process(server.pid)
        return {name: _with_children(process) for name, process in found.items()}

    def _many(self) -> tuple[list[float], DrainReport, list[float]]:
        """Return the seconds of both arms with 40 symbols per round, and the last report of ours."""
        ours: list[float] = []
        theirs: list[float] = []
        for number in count(1):
            finish, report = self.carried(self.lane(MESSAGES, MANY), MESSAGES)
            ours.append(finish.seconds)
            theirs.append(bare(self.lane(MESSAGES, MANY), MESSAGES))
            if number > MANY_ROUNDS:
                return ours[1:], report, theirs[1:]
        raise AssertionError


def bare(lane: Lane, messages: int) -> float:
    """Receive, send and delete until all messages are processed; return the seconds."""
    inputs, outputs, done = lane.inputs[0], lane.outputs, 0
    _ = inputs.depth(), outputs.depth()  # open a connection to each, as a drain run does before it serves
    begin = SYSTEM_CLOCK.now_us()
    while done < messages:
        batch = inputs.receive(10, wait_seconds=1, visibility_seconds=30)
        if batch:
            outputs.send([SendEntry(message.body, message.group_id, message.message_id) for message in batch])
            inputs.delete([message.receipt_handle for message in batch])
        done += len(batch)
    return (SYSTEM_CLOCK.now_us() - begin) / MICROSECONDS


def _steps(report: DrainReport, prefix: str) -> dict[str, float]:
    """Return the duration of each step of a batch; ``process`` covers features and models."""
    return {
        f"{prefix}{step}_p{percent}_ms": getattr(report.latency[step], f"p{percent}")
        for step in _STEPS
        for percent in (50, 99)
    }


def _with_children(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children; PostgreSQL has one per connection, running or ended."""
    seconds = sum(process.cpu_times()[:4])
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            seconds += sum(child.cpu_times()[:2])
    return seconds


def _per_ten(spent: Sequence[Mapping[str, float]], prefix: str) -> dict[str, float]:
    """Return the CPU milliseconds per ten messages, as medians over the rounds except the first."""
    scale = 1e3 * 10 / MESSAGES
    return {f"{prefix}{name}_ms_per_10": scale * statistics.median(one[name] for one in spent[1:]) for name in spent[0]}


def main() -> None:
    models = proof_models()
    with services() as found, tempfile.TemporaryDirectory() as scratch:
        bench = Bench(found, Path(scratch), models)
        prove(
            Comparison(
                name="p3_bare_loop",
                work=f"{MESSAGES:,} messages of {len(SYMBOLS)} symbols from the input queue to the output queue, in "
                "batches of 10",
                ours="one drain run, PUBLISH_SCORES=all",
                anchor="a loop of boto3: receive, send, delete, no model, nothing kept",
                distributions=("boto3", "ministack"),
                unit="s per message",
                goal=Goal(ratio=0.8),
                notes=_NOTES,
            ),
            parity=bench.parity,
            ours=bench.ours,
            anchor=bench.anchor,
            figures=bench.figures,
            curves=bench.curves,
        )


if __name__ == "__main__":
    main()
