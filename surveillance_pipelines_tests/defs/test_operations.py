"""A failed run is on record with its cause."""

import dagster as dg

from surveillance_pipelines.defs.operations import run_failure_sensor
from surveillance_pipelines.defs.resources import PlatformResource


@dg.op
def break_down() -> None:
    raise ValueError("expected a market, found none at postgresql://user:hunter2@host/db\0")


@dg.job
def broken_job() -> None:
    break_down()


def test_run_failure_sensor_records_the_cause_without_secrets(platform: PlatformResource, instance: dg.DagsterInstance):
    result = broken_job.execute_in_process(instance=instance, raise_on_error=False)
    event = next(event for event in result.all_events if event.event_type is dg.DagsterEventType.RUN_FAILURE)
    context = dg.build_run_status_sensor_context(
        sensor_name="run_failure_sensor",
        dagster_event=event,
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        resources={"platform": platform},
    ).for_run_failure()
    run_failure_sensor(context)
    with platform.connect() as connection:
        ((run_id, job, error),) = connection.execute("SELECT run_id, job, error FROM ops.run_failures").fetchall()
    assert (run_id, job) == (result.run_id, "broken_job")
    # PostgreSQL stores no NUL.
    expected = "expected a market, found none at postgresql://user:[redacted]@host/db\\u0000"
    assert error.splitlines()[-1] == f"break_down: ValueError: {expected}"
