"""A live lane of the test's own: real PostgreSQL, real queues, and ways to look at what it did."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.endpoints import Endpoints
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.contracts.queue import Received, SendEntry
from surveillance_pipelines.engine.effects import ClockRow, Effects, Known
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines.runtime.drain import drain
from surveillance_pipelines.runtime.meter import DrainReport
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines.transports.sqs import QueueClient
from surveillance_pipelines_tests.engine.market import SESSION_ROWS, SYMBOLS, merged, sessions

SHELL_STAMPS = frozenset({"t_computed", "t_committed", "t_published", "run_id"})


@dataclass(frozen=True)
class LiveLane:
    """One input queue with everything behind it."""

    settings: Settings
    endpoints: Endpoints
    inputs: QueueClient
    outputs: QueueClient

    @property
    def queue_url(self) -> str:
        return self.inputs.queue_url

    def send(self, messages: Sequence[Received]) -> None:
        self.inputs.send([SendEntry(m.body, m.group_id, m.dedup_id) for m in messages])

    def drain(self, **options: Any) -> DrainReport:
        return drain(self.endpoints, self.settings, self.queue_url, run_id="run-1", **options)

    def promote(self, bundle_hash: str, path: Path, version: int = 1) -> None:
        """Make a bundle the champion."""
        model = ModelVersion(
            version=version, bundle_hash=bundle_hash, path=path, training_duration_seconds=1.0,
            training_dataset_size=1000,
        )  # fmt: skip
        with self.connect() as connection:
            record_version(connection, model)
            deploy_version(connection, version, decided_by="test")

    def connect(self) -> psycopg.Connection:
        return connect(self.endpoints.database_url, autocommit=True)

    def query(self, statement: str, *parameters: Any) -> list[tuple]:
        with self.connect() as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def column(self, statement: str, *parameters: Any) -> list[Any]:
        return [row[0] for row in self.query(statement, *parameters)]

    def outcomes(self) -> dict[str, int]:
        return dict(self.query("SELECT outcome, count(*) FROM ops.ledger GROUP BY outcome"))

    def wire(self) -> list[str]:
        """Take every message off the output queue and return the bodies, in order."""
        bodies: list[str] = []
        while batch := self.outputs.receive(10, wait_seconds=0, visibility_seconds=30):
            bodies += [message.body for message in batch]
            self.outputs.delete([message.receipt_handle for message in batch])
        return bodies

    def replayed(self) -> Effects:
        """Feed the inbox and the clock rows, in order, to a fresh engine that never stops."""
        engine = Engine(engine_config(self.settings, WarmupRules()), WarmupRules(), sessions(), SYMBOLS)
        messages = self.query(
            "SELECT position, message_id, body, group_id, dedup_id, sequence_number, sent_at, received_at "
            "FROM ops.inbox ORDER BY position"
        )
        clock = self.query("SELECT after_position, queue_clock, recorded_at, symbols FROM ops.clock_rows ORDER BY id")
        parts: list[Effects] = []
        for position, *rest in [*messages, (float("inf"),)]:
            while clock and clock[0][0] < position:
                _, queue_clock, recorded_at, symbols = clock.pop(0)
                parts.append(engine.apply_clock(ClockRow(to_us(queue_clock), to_us(recorded_at), tuple(symbols))))
            if rest:
                *texts, sent_at, received_at = rest
                message = Received(*texts, to_us(sent_at), to_us(received_at), 1, "")  # pyright: ignore[reportCallIssue]
                readings = engine.read([message])
                for symbol in engine.symbols_to_seed(readings):
                    engine.seed(symbol, Seed())
                parts.append(engine.process(readings, Known()))
        return merged(parts)


@pytest.fixture
def live_lane(settings: Settings) -> Iterator[LiveLane]:
    """Return a live lane whose lease and visibility time out within a second, as a test can wait for."""
    quick = settings.model_copy(
        update={
            "symbols": SYMBOLS, "lease_seconds": 0.5, "sqs_visibility_timeout": 1, "sqs_wait_time": 1,
            "drain_idle_seconds": 0.3, "bar_close_grace_seconds": 0.0, "publish_scores": "all",
        }
    )  # fmt: skip
    endpoints = provision(settings)
    with connect(endpoints.database_url) as connection:
        save_sessions(connection, session_rows(SESSION_ROWS))
    inputs, outputs = (
        QueueClient(endpoints.sqs_endpoint_url, settings.aws_region, endpoints.aws, url)
        for url in (endpoints.queue_urls[0], endpoints.output_queue_url)
    )
    yield LiveLane(quick, endpoints, inputs, outputs)
    structlog.reset_defaults()


def without_stamps(effects: Effects) -> Effects:
    """Return effects whose rows carry nothing that only a shell or a run knows."""
    outputs = [replace(row, **dict.fromkeys(SHELL_STAMPS)) for row in effects.outputs]
    return replace(effects, outputs=outputs)
