"""Schedules of the live lane: checks and retention."""

import dagster as dg

from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.serving.jobs import live_checks_job
from surveillance_pipelines.defs.serving.retention import retention_job

live_checks_schedule = dg.ScheduleDefinition(
    name="live_checks_schedule",
    job=live_checks_job,
    # Frequent, because a fault of the live lane should be visible within minutes; the checks are a few queries.
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Runs the checks of the live lane every 15 minutes.",
)


@dg.schedule(
    job=retention_job,
    # After daily_bars_schedule, because a week is dropped only after its messages are in the lake.
    cron_schedule="20 1 * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description=(
        "Drops partitions of the live lane's tables after LEDGER_RETENTION_DAYS and creates those of the coming weeks."
    ),
)
def daily_retention_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(run_key=context.scheduled_execution_time.date().isoformat())
