"""When the tables of a day are filled without anybody asking."""

import dagster as dg

from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.bars.jobs import market_data_job
from surveillance_pipelines.defs.bars.partitions import range_tags


@dg.schedule(
    job=market_data_job,
    # After the close of New York in summer and winter time, and before the UTC date changes.
    cron_schedule="30 22 * * 1-5",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Fill the day after the close: ticks to bars, resamples and features.",
)
def daily_bars_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    day = context.scheduled_execution_time.date()
    return dg.RunRequest(run_key=day.isoformat(), tags=range_tags(day, day))
