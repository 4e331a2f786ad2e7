"""Fixtures every test may use. Services are real: one PostgreSQL and one queue server for the whole run."""

from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("no deadline")

pytest_plugins = [
    "surveillance_pipelines_tests.storage_fixtures",
    "surveillance_pipelines_tests.bundle_fixtures",
    "surveillance_pipelines_tests.live_lane_fixtures",
    "surveillance_pipelines_tests.requirements_report",
    "surveillance_pipelines_tests.valkey_fixtures",
]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run from."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data(repository: Path) -> Path:
    """Recorded market data beside the checkout; it may not be redistributed, so a clone alone has none."""
    folder = repository.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no recorded market data beside the checkout (expected ../shared/data)")
    return folder
