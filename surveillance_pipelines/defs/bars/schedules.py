"""The schedule of market data."""

from datetime import timedelta
from typing import Final

import dagster as dg

from surveillance_pipelines.defs.automation import SCHEDULES_START
from surveillance_pipelines.defs.bars.jobs import market_data_job
from surveillance_pipelines.defs.bars.partitions import range_tags

DAYS_AGAIN: Final = 4
"""Days recomputed by each run, so that late data of a Friday is included by Tuesday."""


@dg.schedule(
    job=market_data_job,
    # After the end of the UTC day, to include late trading; daily, because crypto trades at weekends.
    cron_schedule="10 0 * * *",
    execution_timezone="UTC",
    default_status=SCHEDULES_START,
    description="Recomputes ticks, bars, resampled bars and features of the last four full UTC days.",
)
def daily_bars_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    day = context.scheduled_execution_time.date() - timedelta(days=1)
    return dg.RunRequest(run_key=day.isoformat(), tags=range_tags(day - timedelta(days=DAYS_AGAIN - 1), day))
