"""All names that the platform imports from private modules of Dagster; a test forbids such imports elsewhere.

Private modules may change in any release of Dagster. Its public modules do not offer these names.

*Storage.* A storage class in dagster.yaml must extend ``DagsterStorage`` and ``ConfigurableClass``; its signatures use
``UserConfigSchema`` and ``ConfigurableClassData``. dagster-postgres imports them from the same modules.
``DagsterSqliteStorage`` is the storage of an instance without a database.

*Runs.* ``surveillance`` executes a run in a separate process. The public ``execute_job`` and ``execute_in_process`` set
no job origin; without it, the UI does not list the run under its job and cannot re-execute it.

*Processes of runs.* A run launcher reports the health of a run's process with ``CheckRunHealthResult`` and
``WorkerStatus``; ``GRPC_INFO_TAG`` names the code server that starts a run.

*Schedules.* ``surveillance status`` computes the start of the next training from the cron string, as the daemon does.
"""

from dagster._config.config_schema import UserConfigSchema  # storage
from dagster._core.code_pointer import ModuleCodePointer  # runs: module of a code location
from dagster._core.definitions.reconstruct import ReconstructableRepository  # runs: jobs of a code location
from dagster._core.execution.api import execute_run  # runs
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus  # processes of runs
from dagster._core.remote_origin import (  # runs: origin of a job in the UI
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.base_storage import DagsterStorage  # storage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage  # storage
from dagster._core.storage.tags import GRPC_INFO_TAG  # processes of runs
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin  # runs: module that the UI loads
from dagster._serdes import ConfigurableClass, ConfigurableClassData  # storage
from dagster._utils.schedules import cron_string_iterator  # schedules

__all__ = [
    "GRPC_INFO_TAG",
    "CheckRunHealthResult",
    "ConfigurableClass",
    "ConfigurableClassData",
    "DagsterSqliteStorage",
    "DagsterStorage",
    "LaunchRunContext",
    "LoadableTargetOrigin",
    "ManagedGrpcPythonEnvCodeLocationOrigin",
    "ModuleCodePointer",
    "ReconstructableRepository",
    "RemoteJobOrigin",
    "RemoteRepositoryOrigin",
    "UserConfigSchema",
    "WorkerStatus",
    "cron_string_iterator",
    "execute_run",
]
