"""Real stores for tests: one PostgreSQL and one queue server per run, a fresh database, queue and lake per test."""

import fcntl
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines.embedded.service_home import ServiceHome
from surveillance_pipelines.embedded.services import EmbeddedServices, hold
from surveillance_pipelines.services.endpoints import LOCAL_QUEUES
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect, ensure_database, migrate, normalise_url, with_database
from surveillance_pipelines.stores.lake import Lake

MakeQueue = Callable[..., "LocalQueue"]


@dataclass(frozen=True, slots=True)
class LocalQueue:
    """A FIFO queue of one test."""

    url: str
    endpoint_url: str
    aws: AwsCredentials = field(repr=False)
    region: str = "us-east-1"


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all xdist workers of this run share, and no other run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def services(run_folder: Path) -> Iterator[EmbeddedServices]:
    """The embedded services of this run. They end a few seconds after its last worker."""
    settings = service_settings(run_folder / "services")
    with hold(settings) as found:
        _relax(settings, found)
        yield found


@pytest.fixture(scope="session")
def migrated_template(services: EmbeddedServices, run_folder: Path) -> str:
    """Name of a migrated database that each test gets a copy of."""

    def fill(url: str) -> None:
        migrate(url)

    return _template(services, run_folder, "migrated_template", fill)


@pytest.fixture
def database_url(services: EmbeddedServices, migrated_template: str) -> Iterator[str]:
    """A migrated, empty database of the test's own."""
    with _copy(services, migrated_template) as url:
        yield url


@pytest.fixture
def empty_database_url(services: EmbeddedServices) -> Iterator[str]:
    """A database of the test's own without any table."""
    with _copy(services, "template0") as url:
        yield url


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """An open connection to ``database_url``."""
    with connect(database_url) as opened:
        yield opened


@pytest.fixture(scope="session")
def mlflow_template(services: EmbeddedServices, run_folder: Path) -> str:
    """Name of a database with MLflow's tables, which take seconds to make."""

    def fill(url: str) -> None:
        from mlflow.tracking import MlflowClient

        MlflowClient(tracking_uri=normalise_url(url, "psycopg2")).search_experiments()

    return _template(services, run_folder, "mlflow_template", fill)


@pytest.fixture
def mlflow_uri(services: EmbeddedServices, mlflow_template: str) -> Iterator[str]:
    """A tracking URI of the test's own."""
    with _copy(services, mlflow_template) as url:
        yield normalise_url(url, "psycopg2")


@pytest.fixture(scope="session")
def dagster_template(services: EmbeddedServices, run_folder: Path) -> str:
    """Name of a database with Dagster's tables, which take a second to make."""

    def fill(url: str) -> None:
        from dagster_postgres import DagsterPostgresStorage

        DagsterPostgresStorage(postgres_url=normalise_url(url, "psycopg2"))

    return _template(services, run_folder, "dagster_template", fill)


@pytest.fixture
def dagster_url(services: EmbeddedServices, dagster_template: str) -> Iterator[str]:
    """The database of a Dagster instance of the test's own: no run of another test is in it."""
    with _copy(services, dagster_template) as url:
        yield normalise_url(url, "psycopg2")


@pytest.fixture
def make_queue(services: EmbeddedServices) -> MakeQueue:
    """Make fresh FIFO queues; keyword arguments are SQS attributes, such as ``VisibilityTimeout="5"``."""
    client = sqs_client(services.queue_endpoint, services.queue_credentials)

    def make(name: str = "market_queue", **attributes: str) -> LocalQueue:
        full_name = f"{name}_{uuid.uuid4().hex[:12]}.fifo"
        client.create_queue(QueueName=full_name, Attributes={"FifoQueue": "true", **attributes})
        return LocalQueue(f"{LOCAL_QUEUES}/{full_name}", services.queue_endpoint, services.queue_credentials)

    return make


@pytest.fixture
def queue(make_queue: MakeQueue) -> LocalQueue:
    """A fresh input queue."""
    return make_queue()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def settings(database_url: str, make_queue: MakeQueue, tmp_path: Path) -> Settings:
    """Settings that point at fresh stores: nothing of the user's environment decides where a test writes."""
    incoming, outgoing = make_queue("market_queue"), make_queue("surveillance_output")
    values = {
        "surveillance_home": tmp_path / "home",
        "database_url": database_url,
        "dagster_database_url": normalise_url(with_database(database_url, "dagster"), "psycopg2"),
        "mlflow_tracking_uri": normalise_url(with_database(database_url, "mlflow"), "psycopg2"),
        "lake_url": str(tmp_path / "lake"),
        "model_storage_path": tmp_path / "models",
        "sqs_endpoint_url": incoming.endpoint_url,
        "sqs_queue_url": (incoming.url,),
        "output_queue_url": outgoing.url,
        "aws_access_key_id": incoming.aws.access_key_id,
        "aws_secret_access_key": incoming.aws.secret_access_key,
        "aws_region": incoming.region,
    }
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue]


def service_settings(home: Path) -> Settings:
    """Return settings that leave everything to embedded services in ``home``, whatever the environment says."""
    nothing = dict.fromkeys(("database_url", "dagster_database_url", "mlflow_tracking_uri", "output_queue_url"))
    values = {**nothing, "surveillance_home": home, "sqs_queue_url": (), "sqs_endpoint_url": None}
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue]


def sqs_client(endpoint_url: str, aws: AwsCredentials, service: str = "sqs") -> Any:
    """Return a boto3 client of a local queue server."""
    import boto3

    make_client: Any = boto3.client
    return make_client(
        service,
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=aws.access_key_id,
        aws_secret_access_key=aws.secret_access_key,
    )


def _relax(settings: Settings, services: EmbeddedServices) -> None:
    """Let PostgreSQL leave its files to the operating system, and nobody but the tests work in their databases.

    A test run need not survive a power cut; and a database in which autovacuum works cannot be dropped by its owner.
    """
    with (ServiceHome(settings.surveillance_home).postgres / "postgresql.conf").open("a") as file:
        file.write("fsync = off\nfull_page_writes = off\nautovacuum = off\n")
    os.kill(services.postgres.pid, signal.SIGHUP)


def _template(services: EmbeddedServices, run_folder: Path, name: str, fill: Callable[[str], None]) -> str:
    """Make a database once per run; xdist workers take turns."""
    done = run_folder / f"{name}.done"
    with (run_folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            for database in (name, "dagster", "mlflow"):
                ensure_database(services.server_url, database)
            fill(with_database(services.server_url, name))
            with connect(services.server_url, autocommit=True) as server:  # a pool may still be open; a copy wants none
                server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            done.touch()
    return name


@contextmanager
def _copy(services: EmbeddedServices, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:16]}"
    identifiers = (sql.Identifier(name), sql.Identifier(template))
    with connect(services.server_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*identifiers))
    try:
        yield with_database(services.server_url, name)
    finally:
        with connect(services.server_url, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifiers[0]))
