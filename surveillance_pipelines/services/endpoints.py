"""Addresses of all stores and queues: configured ones, else the embedded services. Starts and creates nothing."""

from typing import Final

from surveillance_pipelines.contracts.endpoints import Endpoints
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.locations import local_folder, require_addressable, require_usable_home
from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines.contracts.urls import require_readable_url
from surveillance_pipelines.embedded.queue_credentials import credentials_of_endpoint
from surveillance_pipelines.embedded.services import EmbeddedServices
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import is_same_database, normalise_url, postgres_variables, with_database

# The queue URL keys leases, states and outboxes, so it must not contain the port of the embedded server, which changes.
# The embedded server accepts any host name in a queue URL.
LOCAL_QUEUES: Final = "https://sqs.us-east-1.amazonaws.com/000000000000"
LOCAL_QUEUE_URL: Final = f"{LOCAL_QUEUES}/market_queue.fifo"
LOCAL_OUTPUT_QUEUE_URL: Final = f"{LOCAL_QUEUES}/surveillance_output.fifo"


def needs_embedded_database(settings: Settings) -> bool:
    """Return whether no database is configured, so that the embedded one is used."""
    return settings.database_url is None


def needs_embedded_queue(settings: Settings) -> bool:
    """Return whether no input queue is configured, so that the embedded queues are used."""
    return not settings.sqs_queue_url


def locate(settings: Settings, services: EmbeddedServices | None) -> Endpoints:
    """Return the addresses of every store and queue.

    Args:
        settings: the settings.
        services: the running embedded services; None if database and queue are configured.
    """
    needs_queue = needs_embedded_queue(settings)
    database_url = _database_url(settings, services.server_url if services else "")
    return Endpoints(
        database_url=database_url,
        dagster_database_url=_dagster_url(settings, database_url),
        mlflow_tracking_uri=_mlflow_uri(settings, database_url),
        mlflow_artifact_root=_artifact_root(settings),
        lake_url=lake_url(settings),
        lake_storage_options=_lake_options(settings),
        models_path=settings.models_path,
        sqs_endpoint_url=services.queue_endpoint if services and needs_queue else settings.sqs_endpoint_url,
        queue_urls=settings.sqs_queue_url or (LOCAL_QUEUE_URL,),
        output_queue_url=settings.output_queue_url
        or (LOCAL_OUTPUT_QUEUE_URL if needs_queue else _default_output_queue_url(settings)),
        aws=_queue_credentials(settings, services if needs_queue else None),
        aws_account=_configured_credentials(settings),
        aws_region=settings.aws_region,
        home=settings.surveillance_home,
        embedded=services is not None,
    )


def child_environment(endpoints: Endpoints) -> dict[str, str]:
    """Return the environment variables that give a child process, including dbt, the same services."""
    variables = {
        "DATABASE_URL": endpoints.database_url,
        "DAGSTER_DATABASE_URL": endpoints.dagster_database_url,
        "MLFLOW_TRACKING_URI": endpoints.mlflow_tracking_uri,
        "LAKE_URL": endpoints.lake_url,
        "MODEL_STORAGE_PATH": str(endpoints.models_path),
        "SURVEILLANCE_HOME": str(endpoints.home),
        "SQS_QUEUE_URL": ",".join(endpoints.queue_urls),
        "OUTPUT_QUEUE_URL": endpoints.output_queue_url,
        "AWS_REGION": endpoints.aws_region,
        **postgres_variables(endpoints.database_url),
    }
    if endpoints.sqs_endpoint_url is not None:
        variables["SQS_ENDPOINT_URL"] = endpoints.sqs_endpoint_url
    if "AWS_ENDPOINT_URL" in endpoints.lake_storage_options:
        variables["LAKE_ENDPOINT_URL"] = endpoints.lake_storage_options["AWS_ENDPOINT_URL"]
    # The user's own account comes first: the lake and MLflow need it; a child reads the embedded queue's credentials.
    aws = endpoints.aws if endpoints.aws_account.access_key_id is None else endpoints.aws_account
    if aws.access_key_id is not None and aws.secret_access_key is not None:
        variables["AWS_ACCESS_KEY_ID"] = aws.access_key_id
        variables["AWS_SECRET_ACCESS_KEY"] = aws.secret_access_key
    if aws.session_token is not None:
        variables["AWS_SESSION_TOKEN"] = aws.session_token
    return variables


def _database_url(settings: Settings, server_url: str) -> str:
    if settings.database_url is not None:
        return normalise_url(settings.database_url.get_secret_value(), "libpq")
    return with_database(server_url, "surveillance")


def _dagster_url(settings: Settings, database_url: str) -> str:
    if settings.dagster_database_url is not None:
        url = normalise_url(settings.dagster_database_url.get_secret_value(), "psycopg2", "DAGSTER_DATABASE_URL")
        _require_own_database(url, database_url, "DAGSTER_DATABASE_URL")
        return url
    return normalise_url(with_database(database_url, "dagster"), "psycopg2")


def _mlflow_uri(settings: Settings, database_url: str) -> str:
    if settings.mlflow_tracking_uri is None:
        return normalise_url(with_database(database_url, "mlflow"), "psycopg2")
    if "://" in settings.mlflow_tracking_uri:
        require_readable_url(settings.mlflow_tracking_uri, "MLFLOW_TRACKING_URI")
    if settings.mlflow_tracking_uri.startswith(("http://", "https://")) and "?" in settings.mlflow_tracking_uri:
        raise InvalidInputError(  # MLflow's errors contain the address
            "expected MLFLOW_TRACKING_URI as http://user:password@host:port, got a query after a ? (not shown: it may "
            "contain a password)",
            remedy="remove the query; MLflow reads a token from MLFLOW_TRACKING_TOKEN",
        )
    if settings.mlflow_tracking_uri.startswith("postgres"):
        _require_own_database(settings.mlflow_tracking_uri, database_url, "MLFLOW_TRACKING_URI")
    return settings.mlflow_tracking_uri


def _require_own_database(url: str, database_url: str, setting: str) -> None:
    if is_same_database(url, database_url):
        raise InvalidInputError(
            f"expected {setting} and DATABASE_URL to name two databases, got the same one: both programs record their "
            "migrations in a table of the same name",
            remedy=f"create another database on the server and set {setting} to it, or leave {setting} unset",
        )


def _artifact_root(settings: Settings) -> str | None:
    by_server = (settings.mlflow_tracking_uri or "").startswith(("http://", "https://"))
    folder = settings.surveillance_home / "mlartifacts"
    # MLflow decodes a path, too, so that the files of a home "a%20b" would be stored in "a b".
    return None if by_server else folder.as_uri() if "%" in str(folder) else str(folder)


def _default_output_queue_url(settings: Settings) -> str:
    """Return the default output queue, in the account and region of the first input queue."""
    return settings.sqs_queue_url[0].rsplit("/", 1)[0] + "/surveillance_output.fifo"


def _queue_credentials(settings: Settings, services: EmbeddedServices | None) -> AwsCredentials:
    """Return the credentials for the queues; ``services`` are given if the embedded queue is used."""
    return _credentials_at(settings, settings.sqs_endpoint_url) if services is None else services.queue_credentials


def _credentials_at(settings: Settings, endpoint: str | None) -> AwsCredentials:
    """Return the credentials for an endpoint, which in a child process may be the server of the home."""
    own = None if endpoint is None else credentials_of_endpoint(settings.surveillance_home, endpoint)
    return own or _configured_credentials(settings)


def _configured_credentials(settings: Settings) -> AwsCredentials:
    """Return the configured credentials; without a key, boto3's chain of credentials is used."""
    key, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    if key is not None and secret is not None:
        token = settings.aws_session_token
        return AwsCredentials(
            key.get_secret_value(), secret.get_secret_value(), None if token is None else token.get_secret_value()
        )
    return AwsCredentials(None, None)


def _lake_options(settings: Settings) -> dict[str, str]:
    if not (settings.lake_url or "").startswith("s3://"):
        return {}
    options = {"AWS_REGION": settings.aws_region}
    if settings.lake_endpoint_url is not None:
        options |= {"AWS_ENDPOINT_URL": settings.lake_endpoint_url}
        if settings.lake_endpoint_url.startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
    aws = _credentials_at(settings, settings.lake_endpoint_url)
    if aws.access_key_id is not None and aws.secret_access_key is not None:
        options["AWS_ACCESS_KEY_ID"] = aws.access_key_id
        options["AWS_SECRET_ACCESS_KEY"] = aws.secret_access_key
    if aws.session_token is not None:
        options["AWS_SESSION_TOKEN"] = aws.session_token
    return options


def require_usable_folders(settings: Settings) -> None:
    """Check the folders of the settings, before anything is created in them.

    Raises:
        InvalidInputError: if a library cannot use the home, or the folder of the lake.
    """
    require_usable_home(settings.surveillance_home)
    lake_url(settings)


def lake_url(settings: Settings) -> str:
    """Return the address of the lake: an absolute folder, or the URL of an object store.

    Raises:
        InvalidInputError: if Delta tables cannot be stored in the folder.
    """
    if settings.lake_url is None:
        folder = settings.surveillance_home / "lake"
    elif (configured := local_folder(settings.lake_url)) is None:
        return settings.lake_url
    else:
        folder = configured.expanduser().absolute()  # a child process has another working directory
    require_addressable(folder, "SURVEILLANCE_HOME" if settings.lake_url is None else "LAKE_URL")
    return str(folder)
