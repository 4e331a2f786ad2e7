"""Where everything is: what the user configured, else embedded; one value that child processes inherit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.storage.database import (
    ensure_database,
    is_migrated,
    migrate,
    normalise_url,
    with_database,
)

# The embedded server answers for any host name in a queue's URL, so the name stays the same when its port changes:
# leases, states and outboxes are kept by it.
LOCAL_QUEUES: Final = "https://sqs.us-east-1.amazonaws.com/000000000000"
LOCAL_QUEUE_URL: Final = f"{LOCAL_QUEUES}/market_queue.fifo"
LOCAL_OUTPUT_QUEUE_URL: Final = f"{LOCAL_QUEUES}/surveillance_output.fifo"


@dataclass(frozen=True)
class Endpoints:
    """Addresses of every store and queue. Secrets are inside: it is not printed.

    Attributes:
        database_url: the platform's database, ``postgresql://``.
        dagster_database_url: Dagster's, for SQLAlchemy with psycopg2.
        mlflow_artifact_root: where the files of MLflow runs go; None where an MLflow server decides.
        sqs_endpoint_url: None for AWS itself.
        queue_urls: input queues; a symbol belongs to one of them.
        embedded: whether this process found or started embedded services.
    """

    database_url: str = field(repr=False)
    dagster_database_url: str = field(repr=False)
    mlflow_tracking_uri: str = field(repr=False)
    mlflow_artifact_root: str | None
    lake_url: str
    lake_storage_options: Mapping[str, str] = field(repr=False)
    models_path: Path
    sqs_endpoint_url: str | None
    queue_urls: tuple[str, ...]
    output_queue_url: str
    aws: AwsCredentials = field(repr=False)
    aws_region: str
    home: Path
    embedded: bool

    def environment(self) -> dict[str, str]:
        """Return the variables with which a child process finds the same services, dbt's connection among them."""
        variables = {
            "DATABASE_URL": self.database_url,
            "DAGSTER_DATABASE_URL": self.dagster_database_url,
            "MLFLOW_TRACKING_URI": self.mlflow_tracking_uri,
            "LAKE_URL": self.lake_url,
            "MODEL_STORAGE_PATH": str(self.models_path),
            "SURVEILLANCE_HOME": str(self.home),
            "SQS_QUEUE_URL": ",".join(self.queue_urls),
            "OUTPUT_QUEUE_URL": self.output_queue_url,
            "AWS_REGION": self.aws_region,
            **postgres_variables(self.database_url),
        }
        if self.sqs_endpoint_url is not None:
            variables["SQS_ENDPOINT_URL"] = self.sqs_endpoint_url
        if "AWS_ENDPOINT_URL" in self.lake_storage_options:
            variables["LAKE_ENDPOINT_URL"] = self.lake_storage_options["AWS_ENDPOINT_URL"]
        if self.aws.access_key_id is not None and self.aws.secret_access_key is not None:
            variables["AWS_ACCESS_KEY_ID"] = self.aws.access_key_id
            variables["AWS_SECRET_ACCESS_KEY"] = self.aws.secret_access_key
        if self.aws.session_token is not None:
            variables["AWS_SESSION_TOKEN"] = self.aws.session_token
        return variables


def resolve_endpoints(settings: Settings) -> Endpoints:
    """Return the addresses of everything, ready to use: databases exist and are migrated, embedded queues exist.

    Embedded services are started only for what the settings leave open: PostgreSQL without ``DATABASE_URL``, the
    queues without ``SQS_QUEUE_URL``.
    """
    from surveillance_pipelines.storage.cloud_stores import ensure_queues
    from surveillance_pipelines.storage.embedded import ensure_services, is_prepared, remember_prepared

    needs_database, needs_queue = settings.database_url is None, not settings.sqs_queue_url
    services = ensure_services(settings) if needs_database or needs_queue else None
    database_url = _database_url(settings, services.server_url if services else "")
    found = Endpoints(
        database_url=database_url,
        dagster_database_url=_dagster_url(settings, database_url),
        mlflow_tracking_uri=settings.mlflow_tracking_uri
        or normalise_url(with_database(database_url, "mlflow"), "psycopg2"),
        mlflow_artifact_root=_artifact_root(settings),
        lake_url=_lake_url(settings),
        lake_storage_options=_lake_options(settings),
        models_path=settings.models_path,
        sqs_endpoint_url=services.queue_endpoint if services and needs_queue else settings.sqs_endpoint_url,
        queue_urls=settings.sqs_queue_url or (LOCAL_QUEUE_URL,),
        output_queue_url=settings.output_queue_url
        or (LOCAL_OUTPUT_QUEUE_URL if needs_queue else _output_beside(settings)),
        aws=_credentials(settings, embedded=needs_queue),
        aws_region=settings.aws_region,
        home=settings.surveillance_home,
        embedded=services is not None,
    )
    if services is None:
        _prepare_databases(found, settings)
    elif not is_prepared(settings.surveillance_home, services):
        _prepare_databases(found, settings)
        if needs_queue:
            ensure_queues(found)
        remember_prepared(settings.surveillance_home, services)
    return found


def postgres_variables(database_url: str) -> dict[str, str]:
    """Return a database URL as libpq's environment variables: dbt's profile reads some, libpq itself the others."""
    from psycopg import pq
    from psycopg.conninfo import conninfo_to_dict

    variable_of = {option.keyword.decode(): option.envvar for option in pq.Conninfo.get_defaults()}
    usual = {"PGHOST": "localhost", "PGPORT": "5432", "PGUSER": "postgres", "PGPASSWORD": ""}
    given = {variable_of[keyword]: str(value) for keyword, value in conninfo_to_dict(database_url).items()}
    return usual | {variable.decode(): value for variable, value in given.items() if variable}


def _database_url(settings: Settings, server_url: str) -> str:
    if settings.database_url is not None:
        return normalise_url(settings.database_url.get_secret_value(), "libpq")
    return with_database(server_url, "surveillance")


def _dagster_url(settings: Settings, database_url: str) -> str:
    if settings.dagster_database_url is not None:
        return settings.dagster_database_url.get_secret_value()
    return normalise_url(with_database(database_url, "dagster"), "psycopg2")


def _artifact_root(settings: Settings) -> str | None:
    by_server = (settings.mlflow_tracking_uri or "").startswith(("http://", "https://"))
    return None if by_server else str(settings.surveillance_home / "mlartifacts")


def _output_beside(settings: Settings) -> str:
    """Return the output queue's default: in the account and region of the first input queue."""
    return settings.sqs_queue_url[0].rsplit("/", 1)[0] + "/surveillance_output.fifo"


def _credentials(settings: Settings, *, embedded: bool) -> AwsCredentials:
    key, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    if key is not None and secret is not None:
        token = settings.aws_session_token
        return AwsCredentials(
            key.get_secret_value(), secret.get_secret_value(), None if token is None else token.get_secret_value()
        )
    # The local server wants some credentials and checks none; for AWS, none means boto3's own chain (role, profile).
    return AwsCredentials("local", "local") if embedded else AwsCredentials(None, None)


def _lake_options(settings: Settings) -> dict[str, str]:
    if not (settings.lake_url or "").startswith("s3://"):
        return {}
    options = {"AWS_REGION": settings.aws_region}
    if settings.lake_endpoint_url is not None:
        options |= {"AWS_ENDPOINT_URL": settings.lake_endpoint_url}
        if settings.lake_endpoint_url.startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
    if settings.aws_access_key_id is not None and settings.aws_secret_access_key is not None:
        options["AWS_ACCESS_KEY_ID"] = settings.aws_access_key_id.get_secret_value()
        options["AWS_SECRET_ACCESS_KEY"] = settings.aws_secret_access_key.get_secret_value()
    if settings.aws_session_token is not None:
        options["AWS_SESSION_TOKEN"] = settings.aws_session_token.get_secret_value()
    return options


def _lake_url(settings: Settings) -> str:
    if settings.lake_url is None:
        return str(settings.surveillance_home / "lake")
    # A folder must mean the same one to a child process, which starts elsewhere.
    is_folder = "://" not in settings.lake_url
    return str(Path(settings.lake_url).expanduser().absolute()) if is_folder else settings.lake_url


def _prepare_databases(found: Endpoints, settings: Settings) -> None:
    """Create the databases that the settings leave to us, and migrate the platform's own."""
    wanted = {
        "surveillance": settings.database_url,
        "dagster": settings.dagster_database_url,
        "mlflow": settings.mlflow_tracking_uri,
    }
    for name, configured in wanted.items():
        if configured is None:
            _ensure_database(found, settings, name)
    if not is_migrated(found.database_url):
        migrate(found.database_url)


def _ensure_database(found: Endpoints, settings: Settings, name: str) -> None:
    # Any database of the server will do to ask from; a configured one is known to exist.
    asked = found.database_url if settings.database_url else with_database(found.database_url, "postgres")
    try:
        ensure_database(asked, name)
    except psycopg.errors.InsufficientPrivilege as error:
        variable = {"dagster": "DAGSTER_DATABASE_URL", "mlflow": "MLFLOW_TRACKING_URI"}[name]
        raise RuntimeError(
            f"expected a database {name!r} on the server of DATABASE_URL, found none, and the role may not create it: "
            f"create it, or set {variable}"
        ) from error
