"""The command line over the test's own stores."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from surveillance_pipelines.cli import app
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings

Surveillance = Callable[..., Result]

_SETTINGS_OF_A_USER = ("DATABASE_URL", "SQS_QUEUE_URL", "LAKE_URL", "OUTPUT_QUEUE_URL", "MODEL_STORAGE_PATH")


@pytest.fixture(autouse=True)
def width_of_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands print as they do without a terminal; workers of pytest-xdist set 80 columns."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without ``.env``, a home of the test's own, and no configured store."""
    monkeypatch.chdir(tmp_path)
    for name in _SETTINGS_OF_A_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SURVEILLANCE_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def bare() -> Surveillance:
    """Runs ``surveillance`` with no store configured."""
    return lambda *arguments, text=None: CliRunner().invoke(app, [str(part) for part in arguments], input=text)


@pytest.fixture
def settings(settings: Settings, dagster_url: str) -> Settings:
    """The test's own stores, with a Dagster instance of its own."""
    return settings.model_copy(update={"dagster_database_url": SecretStr(dagster_url)})


@pytest.fixture
def surveillance(settings: Settings, monkeypatch: pytest.MonkeyPatch, bare: Surveillance) -> Surveillance:
    """Runs ``surveillance`` on the test's own database and queues."""
    values = {
        "DATABASE_URL": settings.database_url,
        "DAGSTER_DATABASE_URL": settings.dagster_database_url,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "LAKE_URL": settings.lake_url,
        "MODEL_STORAGE_PATH": settings.model_storage_path,
        "SQS_ENDPOINT_URL": settings.sqs_endpoint_url,
        "SQS_QUEUE_URL": ",".join(settings.sqs_queue_url),
        "OUTPUT_QUEUE_URL": settings.output_queue_url,
        "AWS_ACCESS_KEY_ID": settings.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": settings.aws_secret_access_key,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value.get_secret_value() if isinstance(value, SecretStr) else str(value))
    return bare


@pytest.fixture
def platform(settings: Settings) -> Platform:
    """The stores that ``surveillance`` works on."""
    return Platform(settings)
