"""Where everything is: configured, embedded, or a mixture; and that a child process finds the same."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import psycopg
import pytest
from pydantic import SecretStr

from surveillance_pipelines.contracts.errors import NotReadyError
from surveillance_pipelines.embedded.services import read_services, stop_services
from surveillance_pipelines.services import endpoints, provisioning
from surveillance_pipelines.services.cloud_stores import MAX_RECEIVE_COUNT
from surveillance_pipelines.services.endpoints import LOCAL_OUTPUT_QUEUE_URL, LOCAL_QUEUE_URL, child_environment
from surveillance_pipelines.services.provisioning import provision
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect, is_migrated, postgres_variables, with_database
from surveillance_pipelines_tests.storage_fixtures import service_settings, sqs_client

_CHILD = """
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.services.provisioning import provision
import sys
found = provision(Settings())
print(found.embedded, found.queue_urls[0], found.database_url, "boto3" in sys.modules, "alembic" in sys.modules)
"""


@pytest.fixture
def bare_settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a user who has configured nothing."""
    settings = service_settings(tmp_path / "home")
    yield settings
    stop_services(settings)


@pytest.mark.requirement("ING-01", "ING-05")
def test_provision_nothing_configured_gives_ready_databases_and_queues(bare_settings: Settings) -> None:
    found = provision(bare_settings)
    assert found.embedded
    assert (found.queue_urls, found.output_queue_url) == ((LOCAL_QUEUE_URL,), LOCAL_OUTPUT_QUEUE_URL)
    assert found.lake_url == str(bare_settings.surveillance_home / "lake")
    assert is_migrated(found.database_url)
    for name in ("dagster", "mlflow"):
        connect(with_database(found.database_url, name)).close()
    assert found.sqs_endpoint_url is not None
    client = sqs_client(found.sqs_endpoint_url, found.aws)
    asked = client.get_queue_attributes(QueueUrl=LOCAL_QUEUE_URL, AttributeNames=["All"])["Attributes"]
    assert asked["FifoQueue"] == "true"
    assert f'"maxReceiveCount": "{MAX_RECEIVE_COUNT}"' in asked["RedrivePolicy"]
    assert provision(bare_settings) == found
    _check_child_finds_the_same(child_environment(found), bare_settings)


def _check_child_finds_the_same(variables: dict[str, str], settings: Settings) -> None:
    child = subprocess.run(
        [sys.executable, "-c", _CHILD], env=variables, cwd="/", check=True, capture_output=True, text=True
    )
    url = variables["DATABASE_URL"]
    assert child.stdout.split() == ["False", LOCAL_QUEUE_URL, url, "False", "False"]
    assert read_services(settings.surveillance_home) is not None


def test_provision_all_configured_starts_nothing(settings: Settings) -> None:
    found = provision(settings)
    assert not found.embedded
    assert not settings.surveillance_home.exists()
    assert found.database_url == (settings.database_url or SecretStr("")).get_secret_value()
    assert found.queue_urls == settings.sqs_queue_url


def test_provision_configured_database_is_migrated(settings: Settings, empty_database_url: str) -> None:
    fresh = settings.model_copy(update={"database_url": SecretStr(empty_database_url)})
    provision(fresh)
    assert is_migrated(empty_database_url)


def test_provision_role_that_may_not_create_a_database_says_what_to_set(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: str) -> bool:
        raise psycopg.errors.InsufficientPrivilege("permission denied to create database")

    # The embedded role may create databases and no roles, so a role that may not cannot be made for real here.
    monkeypatch.setattr(provisioning, "ensure_database", refuse)
    with pytest.raises(NotReadyError) as refused:
        provision(settings.model_copy(update={"mlflow_tracking_uri": None}))
    assert "MLFLOW_TRACKING_URI" in refused.value.remedy


def test_provision_queue_of_the_user_gets_an_output_beside_it(settings: Settings) -> None:
    incoming = "https://sqs.eu-west-1.amazonaws.com/111122223333/ticks.fifo"
    found = provision(settings.model_copy(update={"sqs_queue_url": (incoming,), "output_queue_url": None}))
    assert found.output_queue_url == "https://sqs.eu-west-1.amazonaws.com/111122223333/surveillance_output.fifo"


def test_provision_lake_folder_is_absolute_and_bucket_keeps_its_url(settings: Settings) -> None:
    folder = provision(settings.model_copy(update={"lake_url": "somewhere/lake"}))
    assert folder.lake_url == str(Path("somewhere/lake").absolute())
    update = {"lake_url": "s3://bucket/lake", "lake_endpoint_url": "http://127.0.0.1:9000"}
    bucket = provision(settings.model_copy(update=update))
    assert bucket.lake_url == "s3://bucket/lake"
    assert bucket.lake_storage_options["AWS_ALLOW_HTTP"] == "true"
    assert child_environment(bucket)["LAKE_ENDPOINT_URL"] == "http://127.0.0.1:9000"


@pytest.mark.requirement("SEC-09")
def test_endpoints_repr_holds_no_secret(settings: Settings) -> None:
    found = provision(settings)
    password = found.database_url.split(":")[2].split("@")[0]
    assert len(password) > 20
    assert password not in repr(found)
    assert repr(found.aws.secret_access_key) not in repr(found)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:a%40b@db:5433/name", ("db", "5433", "me", "a@b", "name")),
        ("postgresql://me@/name?host=/run/pg", ("/run/pg", "5432", "me", "", "name")),
        ("postgresql:///name?host=db&port=6000&user=me", ("db", "6000", "me", "", "name")),
    ],
)
def test_postgres_variables_are_libpqs(url: str, expected: tuple[str, ...]) -> None:
    found = postgres_variables(url)
    assert tuple(found[f"PG{name}"] for name in ("HOST", "PORT", "USER", "PASSWORD", "DATABASE")) == expected


def test_postgres_variables_keep_how_to_connect() -> None:
    found = postgres_variables("postgresql://me@db/name?sslmode=verify-full&sslrootcert=/ca.pem")
    assert (found["PGSSLMODE"], found["PGSSLROOTCERT"]) == ("verify-full", "/ca.pem")


def test_temporary_credentials_of_the_environment_keep_their_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, f"temporary {name}")
    aws = endpoints._configured_credentials(Settings())
    client = boto3.client(
        "sqs",
        region_name="us-east-1",
        aws_access_key_id=aws.access_key_id,
        aws_secret_access_key=aws.secret_access_key,
        aws_session_token=aws.session_token,
    )
    found = client._request_signer._credentials
    assert (found.access_key, found.token) == ("temporary AWS_ACCESS_KEY_ID", "temporary AWS_SESSION_TOKEN")

    monkeypatch.delenv("AWS_SESSION_TOKEN")
    assert endpoints._configured_credentials(Settings()).access_key_id == "temporary AWS_ACCESS_KEY_ID"


def test_credentials_of_the_embedded_queue_do_not_replace_the_account_of_the_user(
    bare_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"aws_access_key_id": SecretStr("AKIDUSER"), "aws_secret_access_key": SecretStr("secret")}
    found = provision(bare_settings.model_copy(update=keys))
    assert found.aws != found.aws_account
    variables = child_environment(found)
    assert variables["AWS_ACCESS_KEY_ID"] == "AKIDUSER", "the lake and MLflow of a child need the user's account"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    child = provision(Settings(_env_file=None))  # pyright: ignore[reportCallIssue]
    assert (child.embedded, child.aws, child.aws_account) == (False, found.aws, found.aws_account)
