"""P3: throughput of one drain run from a backlog, and of a bare loop that receives, sends as much and deletes.

``python -m benchmarks.p3_throughput --symbols 10 40`` measures two of the numbers of symbols.
"""

import argparse
import os
import signal
import statistics
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.harness import Comparison, Curve, Goal, Parity, prove
from benchmarks.live_lane import DRAINED, Lane, entries, make_lane, random_ticks, services
from benchmarks.models import SYMBOLS, ProofModels, proof_models
from benchmarks.open_loop import Load, latency_at
from surveillance_pipelines.clock import DAY_US, MICROSECONDS, SYSTEM_CLOCK
from surveillance_pipelines.embedded.services import EmbeddedServices
from surveillance_pipelines.runtime.drain import drain
from surveillance_pipelines.runtime.meter import DrainReport
from surveillance_pipelines.runtime.shell import Step
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines_tests.storage_fixtures import sqs_client

MESSAGES: Final = 2_000
PER_SYMBOL: Final = 5
SYMBOL_COUNTS: Final = (10, 40, 400, 4_000)
TICKS_LAST_US: Final = DAY_US // 7
"""Time that the ticks of all symbols cover at most."""
PARITY_MESSAGES: Final = 200
RATES: Final = (50, 200, 400, 800)
LONGEST_WINDOW: Final = 600.0
"""Time limit of a drain run; if it has not processed all messages by then, the round fails."""

_LOOK_SECONDS: Final = 0.1
_STEPS: Final = ("load", "process", "commit", "publish", "mark", "delete")
_NOTES: Final = (
    (
        f"at least {MESSAGES:,} messages and {PER_SYMBOL} of each symbol, after one of each that is not counted; "
        "each arm of a round has queues and a database of its own: the emulator slows down as the ids of the last five "
        "minutes pile up"
    ),
    (
        "the anchor sends as many messages as our arm of the same round published; ours scores, keeps ledger, inbox, "
        "outbox and state in PostgreSQL, and publishes at least one message for each"
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
    (
        "attempts, kept: signed calls instead of boto3's; JSON arrays instead of PostgreSQL's; no look ahead where it "
        "finds nothing; rows dealt to as few sends as keep the order; publications together; a message decoded once"
    ),
    (
        "attempts, dropped: a switch interval of Python's lock of 0.5 and of 0.1 ms instead of 5 (no difference beyond "
        "the rounds' own)"
    ),
)


@dataclass
class Finish:
    """Stops a drain run once all messages are processed; measures time and CPU from the first ``warm`` ones on."""

    lane: Lane
    warm: int
    messages: int
    cpu_seconds: Callable[[], dict[str, float]]
    counted: int = 0
    _last_step: float = 0.0
    _begin: float = 0.0
    _before: dict[str, float] = field(default_factory=dict)
    _after: dict[str, float] = field(default_factory=dict)

    def after(self, step: Step) -> None:
        """Record the time of a step."""
        del step
        self._last_step = _now()

    @property
    def seconds_per_message(self) -> float:
        return (self._last_step - self._begin) / self.counted

    @property
    def cpu_ms_per_message(self) -> dict[str, float]:
        """Return the CPU milliseconds of each process per message."""
        return {name: 1e3 * (self._after[name] - before) / self.counted for name, before in self._before.items()}

    def watch(self, ended: threading.Event) -> None:
        """Begin to measure once the first messages are in the ledger; stop this process once all are published."""
        with connect(self.lane.endpoints.database_url, autocommit=True) as connection:
            while not ended.wait(_LOOK_SECONDS):
                ((stored,),) = connection.execute("SELECT count(*) FROM ops.ledger").fetchall()
                if not self.counted and stored >= self.warm:
                    self._begin, self._before = _now(), self.cpu_seconds()
                    self.counted = self.messages - stored
                if connection.execute(DRAINED, (self.messages,)).fetchone() == (True,):
                    self._after = self.cpu_seconds()
                    os.kill(os.getpid(), signal.SIGTERM)
                    return


class Bench:
    """Both arms over one queue server and one PostgreSQL."""

    def __init__(self, found: EmbeddedServices, folder: Path, models: ProofModels, symbols: Sequence[str]) -> None:
        self._found = found
        self._folder = folder
        self._models = models
        self._symbols = symbols
        self._messages = max(MESSAGES, PER_SYMBOL * len(symbols))
        self.seconds: list[float] = []
        self.anchor_seconds: list[float] = []
        self._cpu: list[dict[str, float]] = []
        self._anchor_cpu_ms: list[float] = []
        self.reports: list[DrainReport] = []

    @property
    def work(self) -> str:
        return (
            f"{self._messages:,} messages of {len(self._symbols):,} symbols from the input queue to the output queue, "
            "in batches of 10"
        )

    def lane(self, messages: int) -> Lane:
        """Return new queues that contain one message of each symbol and then ``messages``, and a new database."""
        lane = make_lane(
            self._found, self._folder, self._models, symbols=self._symbols, publish_scores="all", sqs_wait_time=1,
            log_level="ERROR",
        )  # fmt: skip
        total = messages + (len(self._symbols) if messages else 0)
        # Always yesterday evening: the minute of the session is a feature, on which the share of alerts depends.
        begin = SYSTEM_CLOCK.now_us() // DAY_US * DAY_US - DAY_US // 6
        step = min(MICROSECONDS, TICKS_LAST_US // max(total, 1))
        lane.inputs[0].send(entries(random_ticks(total, begin_us=begin, step_us=step, symbols=self._symbols)))
        return lane

    def carried(self, lane: Lane, messages: int) -> tuple[Finish, DrainReport]:
        """Process all messages with one drain run; return what it took and its report."""
        warm = len(self._symbols)
        finish, ended = Finish(lane, warm, warm + messages, self._cpu_seconds), threading.Event()
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
        if report.totals.get("scored") != warm + messages or report.totals["published"] < warm + messages:
            raise RuntimeError(f"expected {warm + messages} messages scored and published, was {report.totals}")
        return finish, report

    def ours(self) -> float:
        finish, report = self.carried(self.lane(self._messages), self._messages)
        self._cpu.append(finish.cpu_ms_per_message)
        self.reports.append(report)
        self.seconds.append(finish.seconds_per_message)
        return self.seconds[-1]

    def anchor(self) -> float:
        """Let the anchor publish as many messages for each as ours in this round."""
        lane, process = self.lane(self._messages), psutil.Process()
        before = _with_children(process)
        seconds = bare(lane, len(self._symbols) + self._messages, self._published())
        self._anchor_cpu_ms.append(1e3 * (_with_children(process) - before) / self._messages)
        self.anchor_seconds.append(seconds)
        return seconds

    def parity(self) -> Parity:
        """Compare the work on the queues, because the anchor has no model."""
        lane = self.lane(PARITY_MESSAGES)
        _, report = self.carried(lane, PARITY_MESSAGES)
        self.reports.append(report)
        other = self.lane(PARITY_MESSAGES)
        bare(other, len(self._symbols) + PARITY_MESSAGES, self._published())
        left = lane.inputs[0].depth().total, other.inputs[0].depth().total
        ours, theirs = lane.outputs.depth().total, other.outputs.depth().total
        return Parity(
            passed=left == (0, 0) and abs(ours - theirs) <= 1,
            statement=f"of {PARITY_MESSAGES + len(self._symbols)} messages none is left on either input queue; "
            f"published: ours {ours} (each message's score, scores of closed bars, alerts), anchor {theirs}",
        )

    def figures(self) -> Mapping[str, float]:
        return {
            "cpu_ms_per_message": statistics.median(each["arm"] for each in self._cpu[1:]),
            "cpu_ms_per_message_of_the_anchor": statistics.median(self._anchor_cpu_ms[1:]),
            "queue_server_cpu_ms_per_message": statistics.median(each["queue_server"] for each in self._cpu[1:]),
            "postgresql_cpu_ms_per_message": statistics.median(each["postgresql"] for each in self._cpu[1:]),
            "messages_per_second": 1 / statistics.median(self.seconds[1:]),
            "anchor_messages_per_second": 1 / statistics.median(self.anchor_seconds[1:]),
            "published_per_message": self._published(),
            **_steps(self.reports[-1]),
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

    def _published(self) -> float:
        totals = self.reports[-1].totals
        return totals["published"] / totals["scored"]

    def _cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds of this process, which runs the arm, and of both servers."""
        found = {"arm": psutil.Process()}
        for name, server in (("queue_server", self._found.queue), ("postgresql", self._found.postgres)):
            found[name] = psutil.Process(server.pid)
        return {name: _with_children(process) for name, process in found.items()}


def bare(lane: Lane, messages: int, published: float) -> float:
    """Receive, send ``published`` messages for each one, and delete, until all are processed.

    Returns the seconds per message.
    """
    client, done, sent = sqs_client(str(lane.endpoints.sqs_endpoint_url), lane.endpoints.aws), 0, 0
    url, output_url = lane.endpoints.queue_urls[0], lane.endpoints.output_queue_url
    client.get_queue_attributes(QueueUrl=url)  # opens a connection, as a drain run does before it serves
    begin = _now()
    while done < messages:
        batch = client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=30,
            MessageSystemAttributeNames=["All"],
        ).get("Messages", [])  # fmt: skip
        done += len(batch)
        due = [_copy(batch[k % len(batch)], k) for k in range(sent, round(done * published))]
        for start in range(0, len(due), 10):
            client.send_message_batch(QueueUrl=output_url, Entries=due[start : start + 10])
        sent += len(due)
        receipts = [{"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]} for i, message in enumerate(batch)]
        if receipts:
            client.delete_message_batch(QueueUrl=url, Entries=receipts)
    return (_now() - begin) / messages


def _copy(message: Mapping[str, Any], number: int) -> dict[str, str]:
    return {
        "Id": str(number),
        "MessageBody": message["Body"],
        "MessageGroupId": message["Attributes"]["MessageGroupId"],
        "MessageDeduplicationId": f"{message['MessageId']}-{number}",
    }


def _now() -> float:
    return SYSTEM_CLOCK.now_us() / MICROSECONDS


def _steps(report: DrainReport) -> dict[str, float]:
    """Return the duration of each step of a batch; ``process`` covers features and models."""
    return {
        f"{step}_p{percent}_ms": getattr(report.latency[step], f"p{percent}") for step in _STEPS for percent in (50, 99)
    }


def _with_children(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children; PostgreSQL has one per connection, running or ended."""
    seconds = sum(process.cpu_times()[:4])
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            seconds += sum(child.cpu_times()[:2])
    return seconds


def measure(found: EmbeddedServices, folder: Path, models: ProofModels, count: int) -> None:
    """Compare both arms at a number of symbols."""
    bench = Bench(found, folder, models, SYMBOLS if count == len(SYMBOLS) else [f"SIM{i}" for i in range(count)])
    prove(
        Comparison(
            name=f"p3_{count}_symbols",
            work=bench.work,
            ours="one drain run, PUBLISH_SCORES=all",
            anchor="a loop of boto3: receive, send as many messages as ours, delete; no model, nothing kept",
            distributions=("boto3", "ministack"),
            unit="s per message",
            goal=Goal(ratio=0.8, limits={"cpu_ms_per_message": 1.0}),
            notes=_NOTES,
        ),
        parity=bench.parity,
        ours=bench.ours,
        anchor=bench.anchor,
        figures=bench.figures,
        curves=bench.curves if count == len(SYMBOLS) else tuple,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, nargs="+", default=SYMBOL_COUNTS, metavar="N", help="numbers of symbols")
    options = parser.parse_args(arguments)
    models = proof_models()
    with services() as found, tempfile.TemporaryDirectory() as scratch:
        for count in options.symbols:
            measure(found, Path(scratch), models, count)


if __name__ == "__main__":
    main()
