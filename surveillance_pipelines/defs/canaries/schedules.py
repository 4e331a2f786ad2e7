"""The schedule of canary runs."""

import dagster as dg

from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.canaries.jobs import canaries_job

canaries_schedule = dg.ScheduleDefinition(
    name="canaries_schedule",
    job=canaries_job,
    # A run takes one core for a minute or two; a changed setting or model shows within a quarter of a session.
    cron_schedule="25 */2 * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Plants canaries every two hours.",
)
