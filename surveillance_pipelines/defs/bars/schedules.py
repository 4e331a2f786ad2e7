"""When the tables of a day are filled without anybody asking."""

from datetime import timedelta
from typing import Final

import dagster as dg

from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.bars.jobs import market_data_job
from surveillance_pipelines.defs.bars.partitions import range_tags

DAYS_AGAIN: Final = 4
"""So many days are filled each time: what arrives late for a Friday, by queue or from Yahoo, is in by Tuesday."""


@dg.schedule(
    job=market_data_job,
    # When the UTC day is over, so that late trading is in; every day, because crypto trades at weekends.
    cron_schedule="10 0 * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Fill the last four whole UTC days again: ticks to bars, resamples and features.",
)
def daily_bars_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    day = context.scheduled_execution_time.date() - timedelta(days=1)
    return dg.RunRequest(run_key=day.isoformat(), tags=range_tags(day - timedelta(days=DAYS_AGAIN - 1), day))
