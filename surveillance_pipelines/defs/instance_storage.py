"""Where the Dagster instance keeps runs and events; named in dagster.yaml."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from surveillance_pipelines.settings import Settings

VARIABLE: Final = "DAGSTER_DATABASE_URL"


class InstanceStorage(DagsterStorage, ConfigurableClass):
    """PostgreSQL at `DAGSTER_DATABASE_URL`; without it, SQLite below `SURVEILLANCE_HOME`, with a warning.

    Dagster's own PostgreSQL entry of dagster.yaml refuses to load while the variable is unset. Then not even
    `dg check defs` would run in a fresh clone, which needs no database at all.
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
        url = os.environ.get(VARIABLE)
        if url:
            from dagster_postgres import DagsterPostgresStorage

            return DagsterPostgresStorage(postgres_url=url, inst_data=inst_data)
        folder = Settings().surveillance_home / "dagster" / "sqlite"
        logging.getLogger(__name__).warning(
            "%s is not set: runs and events go to SQLite in %s; `surveillance up` sets it", VARIABLE, folder
        )
        return _sqlite(folder, inst_data)


def _sqlite(folder: Path, inst_data: ConfigurableClassData | None) -> DagsterStorage:
    folder.mkdir(parents=True, exist_ok=True)
    return DagsterSqliteStorage(base_dir=str(folder), inst_data=inst_data)
