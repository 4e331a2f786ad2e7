"""Every name of Dagster's private modules that the platform uses; a test forbids such imports anywhere else.

A private module may change in any release of Dagster, and Dagster's public modules offer none of these names.

*Storage.* A storage class that dagster.yaml names must extend ``DagsterStorage`` and ``ConfigurableClass`` and sign its
methods with ``UserConfigSchema`` and ``ConfigurableClassData``; dagster-postgres imports them from the same modules.
``DagsterSqliteStorage`` is the storage of an instance without a database.

*Runs.* ``surveillance`` executes a run in its own process. The public ``execute_job`` and ``execute_in_process`` give a
run no origin; without one, the UI shows it under no job and cannot start it again.

*Schedules.* ``surveillance status`` shows when the next training starts, read from the cron string as the daemon does.
"""

from dagster._config.config_schema import UserConfigSchema  # storage
from dagster._core.code_pointer import ModuleCodePointer  # runs: the module of a code location
from dagster._core.definitions.reconstruct import ReconstructableRepository  # runs: its jobs
from dagster._core.execution.api import execute_run  # runs
from dagster._core.remote_origin import (  # runs: the names under which the UI knows a job
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.base_storage import DagsterStorage  # storage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage  # storage
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin  # runs: how the UI loads the location
from dagster._serdes import ConfigurableClass, ConfigurableClassData  # storage
from dagster._utils.schedules import cron_string_iterator  # schedules

__all__ = [
    "ConfigurableClass",
    "ConfigurableClassData",
    "DagsterSqliteStorage",
    "DagsterStorage",
    "LoadableTargetOrigin",
    "ManagedGrpcPythonEnvCodeLocationOrigin",
    "ModuleCodePointer",
    "ReconstructableRepository",
    "RemoteJobOrigin",
    "RemoteRepositoryOrigin",
    "UserConfigSchema",
    "cron_string_iterator",
    "execute_run",
]
