"""Schedules of models: a daily check of the registry, and a training if MODEL_RETRAINING_SCHEDULE is set."""

import dagster as dg

from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.models.jobs import model_checks_job, training_job

daily_model_checks_schedule = dg.ScheduleDefinition(
    name="daily_model_checks_schedule",
    job=model_checks_job,
    cron_schedule="45 4 * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Checks daily that the aliases in the model registry match the deployments.",
)


def retraining_schedules(cron: str) -> list[dg.ScheduleDefinition]:
    """Return the schedule of `MODEL_RETRAINING_SCHEDULE`; no schedule if it is empty.

    The UI and `surveillance status` show its next tick.

    Raises:
        dagster.DagsterInvalidDefinitionError: if the text is not a cron expression.
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
            description="Trains and evaluates the models, and promotes them if they pass the gate. Its cron expression "
            "is MODEL_RETRAINING_SCHEDULE (UTC).",
        )
    ]
