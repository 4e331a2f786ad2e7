"""The code location ``marts``, separate from the main one, because importing dbt would slow down drain runs."""

import dagster as dg

from surveillance_pipelines.defs.marts.assets import marts
from surveillance_pipelines.defs.marts.dbt import InstalledDbt
from surveillance_pipelines.defs.marts.jobs import marts_job, marts_sensor
from surveillance_pipelines.defs.marts.project import DBT, PROJECT_DIR
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.secret_masking import console_log

defs = dg.Definitions(
    assets=[marts],
    jobs=[marts_job],
    sensors=[marts_sensor],
    executor=dg.in_process_executor,  # a run has one step; a separate process would import everything twice
    loggers={"console": console_log},
    resources={
        "dbt": InstalledDbt(project_dir=str(PROJECT_DIR), profiles_dir=str(PROJECT_DIR), dbt_executable=str(DBT)),
        "platform": PlatformResource(),
    },
)
