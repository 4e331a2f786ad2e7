"""What happens when a run fails."""

import dagster as dg

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.defs.automation import SENSORS_START
from surveillance_pipelines.defs.resources import PlatformResource


@dg.run_failure_sensor(
    default_status=SENSORS_START,
    monitor_all_code_locations=True,
    description="Records every failed run with its error in `ops.run_failures` and in the log.",
)
def run_failure_sensor(context: dg.RunFailureSensorContext, platform: PlatformResource) -> None:
    from surveillance_pipelines.storage.run_failures import RunFailure, record_failure
    from surveillance_pipelines.telemetry import get_logger, redact

    run = context.dagster_run
    event = context.failure_event
    failure = RunFailure(
        run_id=run.run_id,
        job=run.job_name,
        error=redact(event.message or "no message"),
        failed_at=to_datetime(platform.clock.now_us()),
        queue=run.tags.get("surveillance/queue"),
    )
    with platform.connect() as connection:
        record_failure(connection, failure)
    get_logger("dagster").error("run_failed", run_id=failure.run_id, job=failure.job, error=failure.error)
