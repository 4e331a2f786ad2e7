"""When the live lane is checked, and its books are kept short, without anybody asking."""

import dagster as dg

from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.serving.jobs import live_checks_job
from surveillance_pipelines.defs.serving.retention import retention_job

live_checks_schedule = dg.ScheduleDefinition(
    name="live_checks_schedule",
    job=live_checks_job,
    # A few queries; what goes wrong in the live lane should show within a coffee, not the next morning.
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Check the live lane every quarter of an hour.",
)


@dg.schedule(
    job=retention_job,
    # After the nightly fill of the lake, which the dropping of a week waits for.
    cron_schedule="20 1 * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Keep the books of the live lane to LEDGER_RETENTION_DAYS, and their partitions two weeks ahead.",
)
def daily_retention_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(run_key=context.scheduled_execution_time.date().isoformat())
