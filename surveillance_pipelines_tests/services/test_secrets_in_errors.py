"""No error shows a part of a password, whatever the password and the setting that holds it."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from surveillance_pipelines.contracts.urls import without_password
from surveillance_pipelines.services.failures import translate
from surveillance_pipelines.services.platform import open_platform
from surveillance_pipelines.stores.registry import ModelRegistry, split_credentials
from surveillance_pipelines.transports.channels import open_channel

PARTS = ("s3cretA", "pwB9", "endC7")
"""Parts of the password, none of which may be shown."""
HOST = "127.0.0.1:1"
"""Nothing listens on this port."""
NETLOCS = {
    "plain": f"me:s3cretA-pwB9@{HOST}",
    "encoded": f"me:s3cretA%20pwB9%40endC7@{HOST}",
    "space": f"me:s3cretA pwB9@{HOST}",
    "at": f"me:s3cretA@pwB9@{HOST}",
    "colon": f"me:s3cretA:pwB9@{HOST}",
    "slash": f"me:s3cretA/pwB9@{HOST}",
    "percent": f"me:s3cretA%pwB9@{HOST}",
    "bad escape": f"me:s3cretA%zzpwB9@{HOST}",
    "null escape": f"me:s3cretA%00pwB9@{HOST}",
    "quotes": f"me:s3cretA'\"pwB9@{HOST}",
    "backslash": f"me:s3cretA\\pwB9@{HOST}",
    "hash": f"me:s3cretA#pwB9@{HOST}",
    "question mark": f"me:s3cretA?pwB9@{HOST}",
    "brackets": f"me:s3cretA[pwB9]@{HOST}",
    "unicode": f"me:s3cretA€пwpwB9@{HOST}",
    "wide slash": f"me:s3cretA\uff0fpwB9@{HOST}",
    "line break": f"me:s3cretA\npwB9@{HOST}",
    "very long": f"me:{'s3cretApwB9' * 2000}@{HOST}",
    "no user": f":s3cretApwB9@{HOST}",
    "no host": "me:s3cretApwB9",
}
QUERIES = {
    "parameter": "password=s3cretApwB9",
    "parameter with &": "password=s3cretA&pwB9",
    "parameter with =": "password=s3cretA=pwB9",
    "parameter with a space": "password=s3cretA pwB9",
    "parameter unknown": "secret_token=s3cretApwB9",
    "parameter with @": "password=s3cretA@pwB9&x",
}
SHAPES = {
    **{name: f"{{}}://{netloc}/db" for name, netloc in NETLOCS.items()},
    **{name: f"{{}}://{HOST}/db?{query}" for name, query in QUERIES.items()},
    "key=value": "host=127.0.0.1 port=1 password=s3cretA-pwB9 user={}",
    "scheme misspelt": f"{{}}q://me:s3cretApwB9@{HOST}/db",
}


def shown(action: Callable[[], object]) -> str:
    """Return the traceback of an action's error, with its translation for the user."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is shown)
        told = translate(error)
        return f"{''.join(traceback.format_exception(error))}\n{told.message}\n{told.remedy}\n{error!r}"
    return ""


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without settings of the platform, except a home, and queues at which nothing listens."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("AWS_", "SQS_", "LAKE_", "MLFLOW_", "REDIS_", "DATABASE_", "DAGSTER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SURVEILLANCE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/000000000000/q.fifo")
    return monkeypatch


def _aliases() -> dict[str, int]:
    return open_platform().registry.aliases()


def require_no_part(text: str) -> None:
    assert [part for part in PARTS if part in text] == []


@pytest.mark.requirement("SEC-09")
@pytest.mark.parametrize("shape", SHAPES)
def test_database_url(bare: pytest.MonkeyPatch, shape: str) -> None:
    bare.setenv("DATABASE_URL", SHAPES[shape].format("postgresql"))
    text = shown(lambda: open_platform().endpoints)
    assert "127.0.0.1" in text or "DATABASE_URL" in text
    require_no_part(text)
    require_no_part(without_password(SHAPES[shape].format("postgresql")))


@pytest.mark.requirement("SEC-09")
@pytest.mark.parametrize("shape", SHAPES)
def test_databases_of_dagster_and_mlflow(bare: pytest.MonkeyPatch, database_url: str, shape: str) -> None:
    bare.setenv("DATABASE_URL", database_url)
    for setting in ("DAGSTER_DATABASE_URL", "MLFLOW_TRACKING_URI"):
        bare.setenv(setting, SHAPES[shape].format("postgresql"))
    text = shown(lambda: create_engine(open_platform().endpoints.dagster_database_url).connect())
    assert any(name in text for name in ("127.0.0.1", "DAGSTER_DATABASE_URL", "MLFLOW_TRACKING_URI"))
    require_no_part(text)


@pytest.mark.requirement("SEC-09")
@pytest.mark.parametrize("shape", ["plain", "encoded", "space", "unicode", "parameter with =", "scheme misspelt"])
def test_mlflow_database(bare: pytest.MonkeyPatch, database_url: str, shape: str) -> None:
    bare.setenv("DATABASE_URL", database_url)
    bare.setenv("MLFLOW_TRACKING_URI", SHAPES[shape].format("postgresql"))
    bare.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 0)
    require_no_part(shown(_aliases))


@pytest.mark.requirement("SEC-09")
@pytest.mark.parametrize("shape", SHAPES)
def test_mlflow_server(bare: pytest.MonkeyPatch, database_url: str, shape: str) -> None:
    bare.setenv("DATABASE_URL", database_url)
    bare.setenv("MLFLOW_TRACKING_URI", SHAPES[shape].format("http"))
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"):
        bare.setenv(name, "0")
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        bare.setenv(name, "")  # restored after the test
    require_no_part(shown(_aliases))
    require_no_part(repr(ModelRegistry(SHAPES[shape].format("http"))))


@pytest.mark.requirement("SEC-09")
@pytest.mark.parametrize("shape", SHAPES)
def test_redis_url(bare: pytest.MonkeyPatch, database_url: str, shape: str) -> None:
    bare.setenv("DATABASE_URL", database_url)
    bare.setenv("OUTPUT_CHANNELS", "sqs,redis")
    bare.setenv("REDIS_URL", SHAPES[shape].format("redis"))
    text = shown(lambda: open_channel(open_platform().settings, "redis").ping())
    assert "127.0.0.1" in text or "REDIS_URL" in text or "redis" in text.lower()
    require_no_part(text)


@pytest.mark.parametrize("setting", ["LAKE_URL", "LAKE_ENDPOINT_URL", "SQS_ENDPOINT_URL", "OUTPUT_QUEUE_URL"])
def test_address_with_a_password_is_refused_without_showing_it(bare: pytest.MonkeyPatch, setting: str) -> None:
    scheme = "s3" if setting == "LAKE_URL" else "http"
    bare.setenv(setting, f"{scheme}://me:s3cretApwB9@{HOST}/x")
    text = shown(open_platform)
    assert f"expected {setting} without user and password" in text
    require_no_part(text)


def test_credentials_of_an_mlflow_server_are_passed_beside_its_address() -> None:
    address, variables = split_credentials("https://me:s3cretA%20pwB9@host:5000/base")
    assert address == "https://host:5000/base"
    assert variables == {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "s3cretA pwB9"}
    assert split_credentials("postgresql://me:b@host/x") == ("postgresql://me:b@host/x", {})
    assert split_credentials("http://host/x@y") == ("http://host/x@y", {})
