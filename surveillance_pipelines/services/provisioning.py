"""Provisioning of the stores: start embedded services, create and migrate databases, create embedded queues."""

import psycopg

from surveillance_pipelines.contracts.endpoints import Endpoints
from surveillance_pipelines.contracts.errors import NotReadyError
from surveillance_pipelines.services.endpoints import (
    locate,
    needs_embedded_database,
    needs_embedded_queue,
    require_usable_folders,
)
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.artifact_locations import relocate_artifacts
from surveillance_pipelines.stores.database import (
    ensure_database,
    is_migrated,
    migrate,
    newest_revision,
    with_database,
)


def provision(settings: Settings, *, verify: bool = False) -> Endpoints:
    """Create and migrate the databases, create the embedded queues, and return all addresses.

    Embedded services are started only if needed: PostgreSQL without ``DATABASE_URL``, queues without ``SQS_QUEUE_URL``.

    Args:
        settings: the settings.
        verify: whether to look at running embedded services that another process has prepared before; a user may have
            changed their databases since.

    Raises:
        ForeignDatabaseError: if the database belongs to another program, or to a newer release.
    """
    from surveillance_pipelines.embedded.private_folders import protect_home
    from surveillance_pipelines.embedded.services import ensure_services, is_prepared, record_prepared
    from surveillance_pipelines.services.cloud_stores import ensure_queues

    require_usable_folders(settings)
    protect_home(settings.surveillance_home)
    needs_queue = needs_embedded_queue(settings)
    services = ensure_services(settings) if needs_embedded_database(settings) or needs_queue else None
    found = locate(settings, services)
    if services is None:
        _prepare_databases(found, settings)
        return found
    # Another release may have prepared the services for an older revision.
    wanted = newest_revision()
    if verify or not is_prepared(settings.surveillance_home, services, wanted):
        _prepare_databases(found, settings)
        if settings.mlflow_tracking_uri is None and found.mlflow_artifact_root is not None:
            relocate_artifacts(found.mlflow_tracking_uri, found.mlflow_artifact_root)
        if needs_queue:
            ensure_queues(found)
        record_prepared(settings.surveillance_home, services, wanted)
    return found


def _prepare_databases(found: Endpoints, settings: Settings) -> None:
    """Create the databases that are not configured, and migrate the platform's database."""
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
    # CREATE DATABASE needs a connection to any existing database; a configured one exists.
    existing = found.database_url if settings.database_url else with_database(found.database_url, "postgres")
    try:
        ensure_database(existing, name)
    except psycopg.errors.InsufficientPrivilege as error:
        variable = {"dagster": "DAGSTER_DATABASE_URL", "mlflow": "MLFLOW_TRACKING_URI"}[name]
        raise NotReadyError(
            f"expected a database {name!r} on the server of DATABASE_URL, found none; the role lacks CREATEDB",
            remedy=f"create the database, or set {variable}",
        ) from error
