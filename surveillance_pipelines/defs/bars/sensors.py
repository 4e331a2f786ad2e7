"""Keeps instruments and trading sessions ahead of the live lane."""

from datetime import timedelta
from typing import Final

import dagster as dg

from surveillance_pipelines.defs.automation import SENSORS_START
from surveillance_pipelines.defs.bars.jobs import reference_job
from surveillance_pipelines.defs.resources import PlatformResource

AHEAD: Final = timedelta(days=30)
"""A drain run must never meet a day whose session it does not know."""


@dg.sensor(
    job_name=reference_job.name,
    minimum_interval_seconds=10,
    default_status=SENSORS_START,
    description="Makes instruments and trading sessions when a watched symbol or the coming month lacks them.",
)
def reference_data_sensor(
    context: dg.SensorEvaluationContext, platform: PlatformResource
) -> dg.SensorResult | dg.SkipReason:
    from surveillance_pipelines.storage.instruments import load_instruments
    from surveillance_pipelines.storage.sessions import last_sessions

    with platform.connect() as connection:
        calendar_of = {row.symbol: row.calendar for row in load_instruments(connection)}
        reach = last_sessions(connection)
    wanted = {platform.settings.default_calendar, *calendar_of.values()}
    until = platform.today() + AHEAD
    short = sorted(name for name in wanted if name not in reach or reach[name] < until)
    unknown = sorted(set(platform.settings.symbols) - set(calendar_of))
    if not short and not unknown:
        return dg.SkipReason(
            f"{len(calendar_of)} instruments; sessions of {', '.join(sorted(wanted))} reach past {until}"
        )
    missing = f"symbols {unknown}, calendars {short}"
    context.log.info("missing: %s", missing)
    # Once per day and lack: what reference_job cannot fill, it says itself.
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"{platform.today()}: {missing}")])
