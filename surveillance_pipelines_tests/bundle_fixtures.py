"""One tiny bundle for all tests of a worker."""

from pathlib import Path

import pytest

from surveillance_pipelines.models.bundle import Bundle, load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "v1"
    build_tiny_bundle(path)
    return path


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    return load_bundle(bundle_path)


@pytest.fixture(scope="session")
def scorer(bundle: Bundle) -> Ensemble:
    return Ensemble(bundle)
