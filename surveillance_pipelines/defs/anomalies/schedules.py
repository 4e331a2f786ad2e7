"""The schedule of batch scoring."""

from datetime import timedelta

import dagster as dg

from surveillance_pipelines.defs.anomalies.jobs import scoring_job
from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.bars.partitions import range_tags


@dg.schedule(
    job=scoring_job,
    # Half an hour after daily_bars_schedule. If the features are not written yet, the run scores nothing.
    cron_schedule="40 0 * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Scores the previous UTC day and settles the outcomes of its predictions.",
)
def daily_scoring_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    day = context.scheduled_execution_time.date() - timedelta(days=1)
    return dg.RunRequest(run_key=day.isoformat(), tags=range_tags(day, day))
