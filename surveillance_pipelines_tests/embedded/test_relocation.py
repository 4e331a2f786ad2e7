"""Homes that were copied or moved: they have their own services, and leave those of the original alone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from surveillance_pipelines.contracts.errors import ConflictError
from surveillance_pipelines.embedded.service_home import ServiceHome
from surveillance_pipelines.embedded.services import ensure_services, hold, read_services, release, stop_services
from surveillance_pipelines.services.homes import require_unused
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect, ensure_database, with_database
from surveillance_pipelines_tests.storage_fixtures import service_settings


@pytest.fixture
def original(tmp_path: Path) -> Iterator[Settings]:
    """A home with a row, whose services have stopped."""
    settings = service_settings(tmp_path / "original")
    with hold(settings) as found:
        ensure_database(found.server_url, "market")
        with connect(with_database(found.server_url, "market"), autocommit=True) as connection:
            connection.execute("CREATE TABLE facts AS SELECT 1 AS fact")
    stop_services(settings)
    yield settings
    stop_services(settings)
    release(settings)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Settings]:
    """Another, empty place for a home."""
    settings = service_settings(tmp_path / "other")
    yield settings
    stop_services(settings)
    release(settings)


def facts(server_url: str) -> list[int]:
    with connect(with_database(server_url, "market")) as connection:
        return [fact for (fact,) in connection.execute("SELECT fact FROM facts ORDER BY fact")]


def test_copied_home_and_its_original_run_side_by_side(original: Settings, other: Settings) -> None:
    shutil.copytree(original.surveillance_home, other.surveillance_home)
    first, second = ensure_services(original), ensure_services(other)
    assert not {first.postgres, first.queue, first.supervisor} & {second.postgres, second.queue, second.supervisor}
    with connect(with_database(second.server_url, "market"), autocommit=True) as connection:
        connection.execute("INSERT INTO facts VALUES (2)")
    assert (facts(first.server_url), facts(second.server_url)) == ([1], [1, 2])


def test_records_of_a_running_original_mean_nothing_in_its_copy(original: Settings, other: Settings) -> None:
    running = ensure_services(original)
    shutil.copytree(original.surveillance_home, other.surveillance_home, ignore=shutil.ignore_patterns("postgres"))
    assert read_services(other.surveillance_home) is None
    require_unused(other.surveillance_home)
    assert not stop_services(other), "the services of the original are not those of the copy"
    assert running.are_alive


def test_copy_of_a_running_home_is_refused(original: Settings, other: Settings) -> None:
    ensure_services(original)
    shutil.copytree(original.surveillance_home, other.surveillance_home)
    with pytest.raises(ConflictError, match="to be a copy of a stopped home"):
        ensure_services(other)


def test_moved_home_keeps_its_rows(original: Settings, other: Settings) -> None:
    original.surveillance_home.rename(other.surveillance_home)
    assert facts(ensure_services(other).server_url) == [1]
    assert ServiceHome(other.surveillance_home).is_supervised()
