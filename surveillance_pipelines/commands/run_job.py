"""Process of a Dagster run started by a command: ``python -m surveillance_pipelines.commands.run_job``.

The run gets the job origin of the workspace, so that the UI lists it under its job and can re-execute it.
"""

import json
import os
import sys
from typing import Final

import dagster as dg

from surveillance_pipelines.defs.dagster_internals import (
    LoadableTargetOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    ModuleCodePointer,
    ReconstructableRepository,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
    execute_run,
)
from surveillance_pipelines.defs.run_processes import own_process

LOCATIONS: Final = {
    "surveillance_pipelines": "surveillance_pipelines.definitions",
    "marts": "surveillance_pipelines.defs.marts.definitions",
}
"""Code location → module, as in ``workspace.yaml``."""
_REPOSITORY: Final = "__repository__"


def execute(location: str, job_name: str, run_id: str, tags: dict[str, str], run_config: dict[str, object]) -> bool:
    """Execute one run of a job in this process, on the instance of DAGSTER_HOME, and return whether it succeeded."""
    module = LOCATIONS[location]
    repository = ReconstructableRepository(ModuleCodePointer(module, "defs", working_directory=os.getcwd()))  # noqa: PTH109
    job = repository.get_reconstructable_job(job_name)
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=module, working_directory=None)
    origin = RemoteRepositoryOrigin(ManagedGrpcPythonEnvCodeLocationOrigin(target, location), _REPOSITORY)
    with dg.DagsterInstance.get() as instance:
        definition = job.get_definition()
        run = instance.create_run_for_job(
            definition,
            run_id=run_id,
            run_config=run_config,
            tags={**definition.run_tags, **tags, **own_process(), ".dagster/repository": f"{_REPOSITORY}@{location}"},
            remote_job_origin=RemoteJobOrigin(origin, job_name),
            job_code_origin=job.get_python_origin(),
            repository_load_data=job.repository.get_definition().repository_load_data,
        )
        return execute_run(job, run, instance).success


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    sys.exit(0 if execute(**request) else 1)
