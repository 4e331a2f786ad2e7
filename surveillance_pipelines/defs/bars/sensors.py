"""The sensor that keeps instruments and trading sessions complete for the live lane."""

from datetime import timedelta
from typing import Final

import dagster as dg

from surveillance_pipelines.clock import MICROSECONDS, utc_date
from surveillance_pipelines.defs import retries
from surveillance_pipelines.defs.automation import REASON_TAG, SENSORS_START
from surveillance_pipelines.defs.bars.jobs import reference_job
from surveillance_pipelines.defs.resources import PlatformResource

AHEAD: Final = timedelta(days=30)
"""Period for which sessions must be known, so that a drain run knows the session of every tick."""

MAX_PAUSE_SECONDS: Final = 1800.0
"""Maximum pause between two attempts of a failing reference run; nothing is served until it succeeds."""


@dg.sensor(
    job_name=reference_job.name,
    minimum_interval_seconds=10,
    default_status=SENSORS_START,
    description=(
        "Starts `reference_job` if a symbol of SYMBOLS is not registered or sessions of the next 30 days are missing."
    ),
)
def reference_data_sensor(
    context: dg.SensorEvaluationContext, platform: PlatformResource
) -> dg.SensorResult | dg.SkipReason:
    from surveillance_pipelines.stores.instruments import load_instruments
    from surveillance_pipelines.stores.sessions import last_sessions

    with platform.connect() as connection:
        calendar_of = {row.symbol: row.calendar for row in load_instruments(connection)}
        reach = last_sessions(connection)
    wanted = {platform.settings.default_calendar, *calendar_of.values()}
    until = platform.today() + AHEAD
    short = sorted(name for name in wanted if name not in reach or reach[name] < until)
    unknown = sorted(set(platform.settings.symbols) - set(calendar_of))
    if not short and not unknown:
        return dg.SkipReason(
            f"{len(calendar_of)} instruments; sessions of {', '.join(sorted(wanted))} are known up to {until}"
        )
    missing = f"missing: symbols {unknown}, calendars {short}"
    if wait := _reason_to_wait(context.instance, platform, missing):
        return dg.SkipReason(f"{missing}; {wait}")
    context.log.info(missing)
    # Without a run_key, because Dagster starts at most one run per key, even if that run fails.
    return dg.SensorResult(run_requests=[dg.RunRequest(tags={REASON_TAG: missing})])


def _reason_to_wait(instance: dg.DagsterInstance, platform: PlatformResource, missing: str) -> str:
    """Return why to start no run now (one is in progress, failed recently or had no effect today), else empty."""
    filters = dg.RunsFilter(job_name=reference_job.name)
    records = instance.get_run_records(filters, limit=1)
    if not records:
        return ""
    run, ended = records[0].dagster_run, records[0].end_time
    if not run.is_finished:
        return "reference_job is in progress"
    pause = retries.pause_left(instance, filters, platform.clock.now_us(), longest_seconds=MAX_PAUSE_SECONDS)
    if pause > 0:
        return f"reference_job failed (run {run.run_id[:8]}), the next attempt is in {pause:.0f} s"
    was_today = ended is not None and utc_date(round(ended * MICROSECONDS)) == platform.today()
    if run.is_success and was_today and run.tags.get(REASON_TAG) == missing:
        return f"reference_job could not add them today: see the checks of run {run.run_id[:8]}"
    return ""
