"""Each UTC day is filled and scored when it is over, weekends included."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from surveillance_pipelines.defs.anomalies.schedules import daily_scoring_schedule
from surveillance_pipelines.defs.bars.schedules import daily_bars_schedule


@pytest.mark.parametrize(
    ("schedule", "first", "last"),
    [(daily_bars_schedule, "2024-03-06", "2024-03-09"), (daily_scoring_schedule, "2024-03-09", "2024-03-09")],
    ids=["bars", "scores"],
)
def test_daily_schedules_ask_for_whole_utc_days(schedule: dg.ScheduleDefinition, first: str, last: str):
    assert schedule.execution_timezone == "UTC"
    tick = str(schedule.cron_schedule).split()
    assert tick[2:] == ["*", "*", "*"], "crypto trades at weekends"
    sunday = datetime(2024, 3, 10, int(tick[1]), int(tick[0]), tzinfo=UTC)
    request: Any = schedule(dg.build_schedule_context(scheduled_execution_time=sunday))
    assert request.tags["dagster/asset_partition_range_start"] == first
    assert request.tags["dagster/asset_partition_range_end"] == last


def test_daily_scoring_comes_after_the_bars():
    minutes = [str(one.cron_schedule).split()[0] for one in (daily_bars_schedule, daily_scoring_schedule)]
    assert int(minutes[0]) < int(minutes[1])
