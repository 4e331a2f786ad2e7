"""Storage of runs and events of the Dagster instance, configured in dagster.yaml."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from surveillance_pipelines.defs.dagster_internals import (
    ConfigurableClass,
    ConfigurableClassData,
    DagsterSqliteStorage,
    DagsterStorage,
    UserConfigSchema,
)
from surveillance_pipelines.defs.secret_masking import mask_secrets
from surveillance_pipelines.embedded.parent_watch import tie_to_command
from surveillance_pipelines.services.configuration import read_settings

VARIABLE: Final = "DAGSTER_DATABASE_URL"

_STATEMENT_TIMEOUT_MS: Final = 120_000
_CONNECTION_SECONDS: Final = 3600
_EVENTS_AT_ONCE: Final = "500"


class InstanceStorage(DagsterStorage, ConfigurableClass):
    """PostgreSQL at `DAGSTER_DATABASE_URL`; without it, SQLite below `SURVEILLANCE_HOME`, with a warning.

    With Dagster's `postgres` storage entry, dagster.yaml does not load while the variable is unset, and `dg check defs`
    fails in a fresh clone although it needs no database.
    """

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],  # noqa: ARG003 (Dagster's signature)
    ) -> DagsterStorage:
        # Here, because each of Dagster's processes opens the instance when it starts.
        tie_to_command()
        mask_secrets()
        url = os.environ.get(VARIABLE)
        if url:
            return _postgres(url, inst_data)
        folder = read_settings().surveillance_home / "dagster" / "sqlite"
        logging.getLogger(__name__).warning(
            "%s is not set: runs and events are stored in SQLite in %s; `surveillance up` sets it", VARIABLE, folder
        )
        return _sqlite(folder, inst_data)


def _postgres(url: str, inst_data: ConfigurableClassData | None) -> DagsterStorage:
    from dagster_postgres import DagsterPostgresStorage

    # A run over many days writes an event per day and asset; Dagster writes them in batches of this size.
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", _EVENTS_AT_ONCE)
    storage = DagsterPostgresStorage(postgres_url=url, inst_data=inst_data)
    for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
        # By default every call opens a new connection, which takes half the time of a run over many days.
        part.optimize_for_webserver(_STATEMENT_TIMEOUT_MS, pool_recycle=_CONNECTION_SECONDS, max_overflow=20)
    return storage


def _sqlite(folder: Path, inst_data: ConfigurableClassData | None) -> DagsterStorage:
    folder.mkdir(parents=True, exist_ok=True)
    return DagsterSqliteStorage(base_dir=str(folder), inst_data=inst_data)
