"""The live lane under a Dagster daemon in a separate home, as set up by ``surveillance up``, and the anchors' lanes.

A plain lane is what stands beside it: queues and a Dagster instance of its own on the same embedded services, where
either a sensor asks for a run for each message, or a warm process executes one.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Parity
from benchmarks.live_lane import prepare_database, random_ticks, services_of
from benchmarks.models import SYMBOLS, ProofModels
from benchmarks.traffic import LEAD_US, Consumer, Receipt, latencies, produce
from surveillance_pipelines.clock import SYSTEM_CLOCK, to_us
from surveillance_pipelines.commands import dagster_home
from surveillance_pipelines.commands.children import Child, script
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.services.endpoints import LOCAL_QUEUES
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.stores.database import connect, ensure_database, normalise_url, with_database
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.transports.sqs import QueueClient
from surveillance_pipelines_tests.storage_fixtures import service_settings, sqs_client

OURS: Final = (
    "a drain run that the queue's sensor started, one more standing by, in the home that `surveillance up` makes; "
    "PUBLISH_SCORES=all"
)

START_SECONDS: Final = 240
"""Time limit for the start of a daemon, its code locations and its first run: 30 s, several times that under load."""

_KNOBS: Final = {
    "SYMBOLS": ",".join(SYMBOLS),
    "PUBLISH_SCORES": "all",
    "FALLBACK_TO_YFINANCE": "false",
    # One run for the whole benchmark, because another target measures the cost of a handover.
    "DRAIN_WINDOW_SECONDS": "100000",
    "DRAIN_IDLE_SECONDS": "100000",
    "LOG_LEVEL": "WARNING",
}
_PLAIN_INSTANCE: Final = """
storage:
  custom: {module: surveillance_pipelines.defs.instance_storage, class: InstanceStorage, config: {}}
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
telemetry: {enabled: false}
"""
"""Pooled storage like the platform's and no run queue, so that the anchor's instance is as fast as possible."""

_UNDER_WAY: Final = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
_COMPARED: Final = ("symbol", "event_time", "input_hash", "bundle_hash", "config_hash", "score", "kind")

_INBOX: Final = b"SELECT message_id, sent_at, received_at, run_id FROM ops.inbox WHERE message_id = ANY(%s)"


@dataclass(frozen=True, slots=True)
class Round:
    """The results of the messages of one round by message id; instants are in microseconds."""

    sent_at: dict[str, int]
    receipts: dict[str, Receipt]

    @property
    def seconds(self) -> list[float]:
        return latencies(self.sent_at, self.receipts)


@dataclass(frozen=True)
class DagsterLane:
    """The platform in a separate home, its daemon, and a consumer of its output queue."""

    platform: Platform
    daemon: Child
    inputs: QueueClient
    consumer: Consumer
    first: list[Tick]

    def begin(self) -> Round:
        """Send the first ticks of all symbols, wait for the run that answers them, and for one that stands by.

        And for the runs that the daemon starts in a home that is new: a platform that is up has those behind it.
        """
        answered = self.send(self.first, "first")
        wait_until(self.stands_by, self.daemon)
        wait_until(self.is_quiet, self.daemon, pause=1.0)
        return answered

    def send(self, ticks: Sequence[Tick], name: str) -> Round:
        """Send ticks at their event times and wait for all answers."""
        ids = produce(self.inputs, ticks, name)
        receipts = self.consumer.wait_for(ids, self.daemon.check_alive)
        return Round({id_: to_us(sent_at) for id_, sent_at, _, _ in self.inbox(ids)}, receipts)

    def inbox(self, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return message id, SentTimestamp, receipt time and run id of the messages received by the drain run."""
        with self.platform.connect() as connection:
            return connection.execute(_INBOX, (list(ids),)).fetchall()

    def stands_by(self) -> bool:
        with self.platform.connect() as connection:
            found = connection.execute("SELECT 1 FROM ops.leases WHERE role = 'standby'").fetchone()
        return found is not None

    def is_quiet(self) -> bool:
        """Return whether only drain runs are in progress."""
        import dagster as dg

        under_way = [dg.DagsterRunStatus(name) for name in _UNDER_WAY]
        with dagster_home.open_instance(self.platform) as instance:
            runs = instance.get_runs(dg.RunsFilter(statuses=under_way))
        return all(run.job_name == "drain_job" for run in runs)


@dataclass(frozen=True)
class PlainLane:
    """An anchor's queues, its process, and a consumer of its output queue."""

    inputs: QueueClient
    process: Child
    consumer: Consumer

    def send(self, ticks: Sequence[Tick], name: str) -> Round:
        """Send ticks at their event times and wait for all answers."""
        ids = produce(self.inputs, ticks, name)
        receipts = self.consumer.wait_for(ids, self.process.check_alive)
        return Round({id_: receipts[id_].row["sent_at"] for id_ in ids}, receipts)


@contextmanager
def dagster_lane(models: ProofModels) -> Iterator[DagsterLane]:
    """Run services, daemon and consumer in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="proof-", ignore_cleanup_errors=True) as folder:
        settings = service_settings(Path(folder) / "home")
        with services_of(settings):
            platform = Platform(settings)
            prepare_database(platform.endpoints.database_url, models)
            with connect(platform.endpoints.database_url) as connection:
                register_instruments(connection, SYMBOLS, settings.default_calendar, "bench")
            daemon = dagster_home.start_daemon(platform, dagster_home.prepare(platform) | _KNOBS)
            try:
                with Consumer(platform.queue(platform.endpoints.output_queue_url)) as consumer:
                    inputs = platform.queue(platform.endpoints.queue_urls[0])
                    yield DagsterLane(platform, daemon, inputs, consumer, first_ticks())
            finally:
                daemon.stop()


@contextmanager
def plain_lane(platform: Platform, name: str, arguments: Sequence[str]) -> Iterator[PlainLane]:
    """Run a process with separate queues and a separate Dagster instance.

    Args:
        platform: whose services to use; its promoted bundle scores here, too.
        name: of queues, database and log.
        arguments: of the process.
    """
    home = platform.home / name
    home.mkdir()
    (home / "dagster.yaml").write_text(_PLAIN_INSTANCE)
    (home / "workspace.yaml").write_text(f"load_from: [python_module: {__package__}.anchor_location]\n")
    endpoints = platform.endpoints
    ensure_database(endpoints.database_url, name)
    client = sqs_client(str(endpoints.sqs_endpoint_url), endpoints.aws)
    urls = [f"{LOCAL_QUEUES}/{name}_{end}.fifo" for end in ("in", "out")]
    for url in urls:
        client.create_queue(QueueName=url.rsplit("/", 1)[1], Attributes={"FifoQueue": "true"})
    environment = platform.environment() | _KNOBS | {
        "DAGSTER_HOME": str(home), "SQS_QUEUE_URL": urls[0], "OUTPUT_QUEUE_URL": urls[1],
        "DAGSTER_DATABASE_URL": normalise_url(with_database(endpoints.database_url, name), "psycopg2"),
    }  # fmt: skip
    process = Child(name, arguments, environment, home / "process.log")
    try:
        with Consumer(platform.queue(urls[1])) as consumer:
            yield PlainLane(platform.queue(urls[0]), process, consumer)
    finally:
        process.stop()


def daemon_arguments(platform: Platform, name: str) -> list[str]:
    """Return the command of a plain lane's daemon."""
    return [script("dagster-daemon"), "run", "-w", str(platform.home / name / "workspace.yaml")]


def first_ticks() -> list[Tick]:
    """Return three ticks of each symbol in a past minute; their scores depend on nothing else."""
    minute = (SYSTEM_CLOCK.now_us() // MINUTE_US - 1) * MINUTE_US
    return random_ticks(3 * len(SYMBOLS), begin_us=minute)


def equal_answers(ours: Sequence[Receipt], theirs: Sequence[Receipt]) -> Parity:
    """Compare the scores of both arms for the same ticks, in the same order."""
    pairs = list(zip(ours, theirs, strict=True))
    unlike = sorted({name for a, b in pairs for name in _COMPARED if a.row[name] != b.row[name]})
    return Parity(
        passed=bool(pairs) and not unlike,
        statement=f"{len(pairs)} scores of the same messages are "
        + (f"unlike in {', '.join(unlike)}" if unlike else f"equal in {', '.join(_COMPARED)}"),
    )


def work(messages: int, rate: float) -> str:
    """Return the description of the work of P1 and P2 for the report."""
    return (
        f"{messages:,} messages of 10 symbols, open loop at {rate:g} a second, from SQS's SentTimestamp to the receipt "
        "of each message's score on the output queue"
    )


def live_ticks(count: int, rate: float = 50.0) -> list[Tick]:
    """Return ticks of ten symbols in turn, due from now on at a given rate."""
    return random_ticks(count, begin_us=SYSTEM_CLOCK.now_us() + LEAD_US, step_us=round(1e6 / rate))


def wait_until(true: Callable[[], bool], child: Child, *, seconds: float = START_SECONDS, pause: float = 0.2) -> None:
    """Wait for a condition that a child process fulfils."""
    deadline = SYSTEM_CLOCK.now_us() + round(seconds * 1e6)
    while not true():
        child.check_alive()
        if SYSTEM_CLOCK.now_us() > deadline:
            raise TimeoutError(f"expected more of {child.name} within {seconds:.0f} s:\n{child.tail()}")
        SYSTEM_CLOCK.sleep(pause)
