import fcntl
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from surveillance_pipelines.contracts.endpoints import Endpoints
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.embedded.services import EmbeddedServices
from surveillance_pipelines.services.endpoints import locate
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect, ensure_database, migrate, with_database
from surveillance_pipelines_tests.marts.rows import insert_everything

DATABASE = "marts_of_this_run"


@pytest.fixture(scope="session")
def marts_definitions() -> dg.Definitions:
    from surveillance_pipelines.defs.marts.definitions import defs

    return defs


class ScratchPlatform(PlatformResource):
    """The platform on a test database."""

    database_url: str

    @property
    def endpoints(self) -> Endpoints:
        return locate(
            Settings(database_url=SecretStr(self.database_url), sqs_queue_url=("https://sqs/0/q.fifo",)), None
        )


@dataclass(frozen=True)
class BuiltMarts:
    """A database with marts built by Dagster, and the events of the run."""

    database_url: str
    row_counts: dict[str, int | None]  # by model; None for views
    checks: dict[str, bool]  # result by name


@pytest.fixture(scope="session")
def built_marts(services: EmbeddedServices, run_folder: Path, marts_definitions: dg.Definitions) -> BuiltMarts:
    """The marts over the rows of ``rows.py``, built once for all workers: dbt takes seconds to start."""
    record = run_folder / "built_marts.json"
    with (run_folder / "built_marts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            record.write_text(json.dumps(asdict(build(_database_with_rows(services), marts_definitions))))
    return BuiltMarts(**json.loads(record.read_text()))


def _database_with_rows(services: EmbeddedServices) -> str:
    ensure_database(services.server_url, DATABASE)
    database_url = with_database(services.server_url, DATABASE)
    migrate(database_url)
    with connect(database_url) as connection:
        insert_everything(connection)
    return database_url


def build(database_url: str, definitions: dg.Definitions) -> BuiltMarts:
    """Build all marts over a database as a Dagster run does."""
    from surveillance_pipelines.defs.marts.assets import marts

    # The session time zone must not affect the result.
    platform = ScratchPlatform(database_url=f"{database_url}?options=-c%20TimeZone%3DAmerica/New_York")
    resources = {**(definitions.resources or {}), "platform": platform}
    result = dg.materialize([marts], resources=resources)
    return BuiltMarts(
        database_url,
        dict(_row_count(event) for event in result.get_asset_materialization_events()),
        {check.check_name: check.passed for check in result.get_asset_check_evaluations()},
    )


def _row_count(event: dg.DagsterEvent) -> tuple[str, int | None]:
    materialization = event.step_materialization_data.materialization
    count = materialization.metadata.get("dagster/row_count")
    return materialization.asset_key.path[-1], None if count is None else int(str(count.value))
