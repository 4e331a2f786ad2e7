"""When the promises of the live lane are checked without anybody asking."""

import dagster as dg

from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.serving.jobs import live_checks_job

live_checks_schedule = dg.ScheduleDefinition(
    name="live_checks_schedule",
    job=live_checks_job,
    # A few queries; what goes wrong in the live lane should show within a coffee, not the next morning.
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Check the live lane every quarter of an hour.",
)
