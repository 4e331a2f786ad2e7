"""Schedules of the live lane: its checks, and the retention of its tables."""

import dagster as dg

from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.serving.jobs import live_checks_job
from surveillance_pipelines.defs.serving.retention import retention_job

live_checks_schedule = dg.ScheduleDefinition(
    name="live_checks_schedule",
    job=live_checks_job,
    # A few queries; a fault of the live lane should show within minutes, not the next morning.
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Check the live lane every 15 minutes.",
)


@dg.schedule(
    job=retention_job,
    # After the nightly fill of the lake, which a week must be part of before it is dropped.
    cron_schedule="20 1 * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Keep the live lane's tables to LEDGER_RETENTION_DAYS, and their partitions two weeks ahead.",
)
def daily_retention_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(run_key=context.scheduled_execution_time.date().isoformat())
