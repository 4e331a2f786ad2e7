"""A live lane for benchmarks: embedded services in a separate home, new queues and a new database per round."""

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import SecretStr

from benchmarks.models import SYMBOLS, ProofModels
from surveillance_pipelines.clock import DAY_US, MICROSECONDS, SYSTEM_CLOCK, utc_date
from surveillance_pipelines.contracts.endpoints import Endpoints
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.embedded.services import EmbeddedServices, ensure_services, stop_services
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.services.cloud_stores import ensure_queues
from surveillance_pipelines.services.endpoints import LOCAL_QUEUES
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect, migrate, with_database
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines.transports.sqs import QueueClient
from surveillance_pipelines_tests.storage_fixtures import service_settings

DRAINED: Final = b"""
    SELECT (SELECT count(*) FROM ops.ledger) >= %s AND NOT EXISTS (
        SELECT FROM ops.leases LEFT JOIN ops.delivery_cursors AS cursors USING (queue_url)
        WHERE role = 'holder' AND coalesce(cursors.position, 0)
              < (SELECT max(position) FROM ops.outbox WHERE outbox.queue_url = leases.queue_url))
"""
"""Whether so many messages have an outcome and all rows are published, while drain runs hold the queues."""

_SEED: Final = 11


@dataclass(frozen=True)
class Lane:
    """Queues, database and settings of one round."""

    settings: Settings
    endpoints: Endpoints

    def queue(self, url: str) -> QueueClient:
        endpoints = self.endpoints
        return QueueClient(endpoints.sqs_endpoint_url, self.settings.aws_region, endpoints.aws, url)

    @property
    def inputs(self) -> list[QueueClient]:
        return [self.queue(url) for url in self.endpoints.queue_urls]

    @property
    def outputs(self) -> QueueClient:
        return self.queue(self.endpoints.output_queue_url)

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with connect(self.endpoints.database_url, autocommit=True) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()


@contextmanager
def services(parent: Path | None = None) -> Iterator[EmbeddedServices]:
    """Run the embedded services in a temporary folder, in ``parent`` or where temporary files belong."""
    with (
        tempfile.TemporaryDirectory(prefix="proof-", dir=parent, ignore_cleanup_errors=True) as folder,
        services_of(service_settings(Path(folder) / "home")) as found,
    ):
        yield found


@contextmanager
def services_of(settings: Settings) -> Iterator[EmbeddedServices]:
    """Run the embedded services of a home, and stop them before its folder is deleted."""
    try:
        yield ensure_services(settings)
    finally:
        stop_services(settings)


def make_lane(
    found: EmbeddedServices,
    folder: Path,
    models: ProofModels | None,
    *,
    queues: int = 1,
    symbols: Sequence[str] = SYMBOLS,
    lake_url: str | None = None,
    **knobs: Any,
) -> Lane:
    """Return a new lane on running services with promoted models, or with the warm-up rules if there are none.

    Its lake is empty, unless ``lake_url`` names another.
    """
    name = uuid.uuid4().hex[:12]
    with connect(found.server_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "lane_{name}"'.encode())
    database_url = with_database(found.server_url, f"lane_{name}")
    migrate(database_url)
    names = [f"in_{i}_{name}.fifo" for i in range(queues)] + [f"out_{name}.fifo"]
    urls = [f"{LOCAL_QUEUES}/{queue}" for queue in names]
    settings = Settings(
        _env_file=None,  # pyright: ignore[reportCallIssue]
        surveillance_home=folder / name,
        database_url=database_url,
        lake_url=lake_url or str(folder / name / "lake"),
        sqs_endpoint_url=found.queue_endpoint,
        sqs_queue_url=tuple(urls[:-1]),
        output_queue_url=urls[-1],
        aws_access_key_id=SecretStr(str(found.queue_credentials.access_key_id)),
        aws_secret_access_key=SecretStr(str(found.queue_credentials.secret_access_key)),
        symbols=tuple(symbols),
        **knobs,
    )
    prepare_database(database_url, models)
    lane = Lane(settings, provision(settings))
    ensure_queues(lane.endpoints)
    return lane


def prepare_database(database_url: str, models: ProofModels | None) -> None:
    """Record all-day trading sessions from a week ago to beyond the next month, and promote the models.

    Because the next month is recorded, the reference sensor requests no run that would replace them by real sessions.
    """
    today = SYSTEM_CLOCK.now_us() // DAY_US * DAY_US
    starts = [today + day * DAY_US for day in range(-7, 40)]
    rows = session_rows([("XNYS", utc_date(start), start, start + DAY_US - MINUTE_US) for start in starts])
    with connect(database_url) as connection:
        save_sessions(connection, rows)
        if models is not None:
            bundle = models.bundle
            record_version(
                connection,
                ModelVersion(
                    version=1, bundle_hash=bundle.bundle_hash, path=bundle.path, training_duration_seconds=1.0,
                    training_dataset_size=1_000,
                ),
            )  # fmt: skip
            deploy_version(connection, 1, decided_by="bench")


def random_ticks(
    count: int, *, begin_us: int, step_us: int = MICROSECONDS, symbols: Sequence[str] = SYMBOLS
) -> list[Tick]:
    """Return ticks of the symbols in turn, a random walk; one tick each ``step_us`` of event time."""
    rng = np.random.default_rng(_SEED)
    steps = rng.normal(0.0, 4e-4, count)
    sizes = rng.integers(1, 400, count)
    prices = dict.fromkeys(symbols, 100.0)
    out: list[Tick] = []
    for i in range(count):
        symbol = symbols[i % len(symbols)]
        prices[symbol] *= float(np.exp(steps[i]))
        out.append(Tick(symbol, round(prices[symbol], 4), float(sizes[i]), begin_us + i * step_us))
    return out


def entries(ticks: Sequence[Tick]) -> list[SendEntry]:
    return [SendEntry(encode_tick(tick), tick.symbol, f"tick-{i}") for i, tick in enumerate(ticks)]
