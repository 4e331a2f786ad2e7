from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.storage.database import connect, ensure_database, migrate, with_database
from surveillance_pipelines.storage.embedded import EmbeddedServices
from surveillance_pipelines.storage.endpoints import postgres_variables
from surveillance_pipelines_tests.marts.rows import insert_everything


@pytest.fixture(scope="session")
def marts_definitions() -> dg.Definitions:
    from surveillance_pipelines.defs.marts.definitions import defs

    return defs


class ScratchPlatform(PlatformResource):
    """The platform on a database of this test's own."""

    environment: dict[str, str]

    @property
    def endpoints(self) -> Any:
        return SimpleNamespace(environment=lambda: self.environment)


@dataclass(frozen=True)
class BuiltMarts:
    """A database whose marts Dagster has built, and what the run reported."""

    database_url: str
    result: dg.ExecuteInProcessResult


@pytest.fixture(scope="session")
def built_marts(services: EmbeddedServices, marts_definitions: dg.Definitions) -> BuiltMarts:
    """Build the marts over the rows of ``rows.py``, once for all tests of a worker: dbt takes seconds to start."""
    from surveillance_pipelines.defs.marts.assets import marts

    database_url = _database_with_rows(services)
    # A session time zone that must not matter.
    environment = {**postgres_variables(database_url), "PGTZ": "America/New_York"}
    resources = {**(marts_definitions.resources or {}), "platform": ScratchPlatform(environment=environment)}
    return BuiltMarts(database_url, dg.materialize([marts], resources=resources))


def _database_with_rows(services: EmbeddedServices) -> str:
    name = f"marts_{uuid4().hex[:16]}"
    ensure_database(services.server_url, name)
    database_url = with_database(services.server_url, name)
    migrate(database_url)
    with connect(database_url) as connection:
        insert_everything(connection)
    return database_url
