"""When models are trained without anybody asking."""

import dagster as dg

from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.models.jobs import training_job


def retraining_schedules(cron: str) -> list[dg.ScheduleDefinition]:
    """Return the schedule that `MODEL_RETRAINING_SCHEDULE` asks for, none if it is empty.

    The UI and `surveillance status` show its next tick.

    Raises:
        dagster.DagsterInvalidDefinitionError: if the text is no cron line.
    """
    if not cron.strip():
        return []
    return [
        dg.ScheduleDefinition(
            name="model_retraining_schedule",
            job=training_job,
            cron_schedule=cron.strip(),
            execution_timezone="UTC",
            default_status=SCHEDULES_START,
            description="Train, evaluate and, through the gate, promote: MODEL_RETRAINING_SCHEDULE, in UTC.",
        )
    ]
