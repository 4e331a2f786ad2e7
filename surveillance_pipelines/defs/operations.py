"""The sensor that records failed runs."""

import dagster as dg

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.defs.automation import SENSORS_START
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.run_errors import step_errors
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG


@dg.run_failure_sensor(
    default_status=SENSORS_START,
    monitor_all_code_locations=True,
    description=(
        "Records every failed run with its error in `ops.run_failures` and in the log. While no run fails, Dagster "
        'reports "Sensor function returned an empty result" for each tick, which is expected.'
    ),
)
def run_failure_sensor(context: dg.RunFailureSensorContext, platform: PlatformResource) -> None:
    from surveillance_pipelines.stores.run_failures import RunFailure, record_failure
    from surveillance_pipelines.telemetry import get_logger, redact

    run = context.dagster_run
    failure = RunFailure(
        run_id=run.run_id,
        job=run.job_name,
        error=redact(_cause(context)),
        failed_at=to_datetime(platform.clock.now_us()),
        queue=run.tags.get(QUEUE_TAG),
    )
    with platform.connect() as connection:
        record_failure(connection, failure)
    get_logger("dagster").error("run_failed", run_id=failure.run_id, job=failure.job, error=failure.error)


def _cause(context: dg.RunFailureSensorContext) -> str:
    """Return the errors of the failed steps, innermost cause last, or the run's own message if no step failed."""
    lines = step_errors(context.get_step_failure_events())
    return "\n".join(lines) or context.failure_event.message or "no message"
