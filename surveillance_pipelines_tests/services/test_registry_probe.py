"""MLFLOW_TRACKING_URI of a server that does not answer fails ``status`` and ``doctor`` at once."""

import socket
import time
from collections.abc import Iterator

import pytest

from surveillance_pipelines.services.doctor import check_registry
from surveillance_pipelines.services.health import check_health
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.services.registry_probe import unreachable_registry
from surveillance_pipelines.stores.model_store import ModelVersion, record_version

REMEDY = "start the MLflow server, or correct MLFLOW_TRACKING_URI"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections and that nothing else can listen on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_server_that_does_not_answer_fails_without_its_password(closed_port):
    found = unreachable_registry("MLflow", f"http://user:secret@127.0.0.1:{closed_port}")
    assert found is not None
    assert (found.verdict, found.remedy) == ("fail", REMEDY)
    assert found.found == (
        f"expected MLflow to answer at http://user:***@127.0.0.1:{closed_port}, got Connection refused"
    )


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999999", "http://"])
def test_url_without_host_and_port_fails(url):
    found = unreachable_registry("MLflow", url)
    assert found is not None
    assert "got a URL without a" in found.found


def test_server_that_listens_is_not_a_failure():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert unreachable_registry("MLflow", f"http://127.0.0.1:{server.getsockname()[1]}") is None


@pytest.mark.parametrize("url", ["sqlite:////tmp/mlflow.db", "postgresql://user:p@127.0.0.1:1/mlflow", "/tmp/mlruns"])
def test_files_and_databases_are_not_probed(url):
    assert unreachable_registry("MLflow", url) is None


def test_doctor_and_status_name_the_server_at_once(settings, closed_port, tmp_path):
    uri = f"http://127.0.0.1:{closed_port}"
    platform = Platform(settings.model_copy(update={"mlflow_tracking_uri": uri}))
    with platform.connect() as connection:
        record_version(connection, ModelVersion(
            version=1, bundle_hash="a" * 64, path=tmp_path / "v1", training_duration_seconds=1.0,
            training_dataset_size=1, mlflow_version=1,
        ))  # fmt: skip
    started = time.monotonic()
    (found,) = check_registry(platform)
    (line,) = [line for line in check_health(platform).lines if line.name == "MLflow"]
    assert time.monotonic() - started < 30, "MLflow's own retries take minutes"
    assert (found.name, line.found, line.verdict) == ("model registry", found.found, "fail")
    assert found.found.startswith(f"expected MLflow to answer at {uri}, got ")
    assert found.remedy == line.remedy == REMEDY
