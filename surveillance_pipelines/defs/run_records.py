"""State of a Dagster instance: failed and active runs, latest evaluations of checks, failed ticks, the daemon."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.contracts.text import listed
from surveillance_pipelines.defs.run_errors import INTERRUPTED, innermost_line, step_errors
from surveillance_pipelines.defs.run_processes import process_problem
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG
from surveillance_pipelines.services.run_health import (
    CHECKS_SINCE,
    RECENT,
    ActiveRun,
    ActiveStatus,
    CheckState,
    DagsterState,
    FailedRun,
    FailedTick,
)
from surveillance_pipelines.telemetry import redact

_ACTIVE: Final[dict[dg.DagsterRunStatus, ActiveStatus]] = {
    dg.DagsterRunStatus.QUEUED: "queued",
    dg.DagsterRunStatus.NOT_STARTED: "queued",
    dg.DagsterRunStatus.STARTING: "starting",
    dg.DagsterRunStatus.STARTED: "started",
    dg.DagsterRunStatus.CANCELING: "canceling",
}
_ASSET_JOB: Final = "__ASSET_JOB"
"""Name of Dagster's job for runs of selected assets, which the UI and automation conditions start."""
_NAMED: Final = 3
"""Assets of a run that are named."""
_FAILED_RUNS: Final = 50
"""Newest failed runs whose errors are read, one query each."""
_ACTIVE_RUNS: Final = 200
_EVALUATIONS: Final = 10_000


def dagster_state(instance: dg.DagsterInstance, now_us: int) -> DagsterState:
    """Read the state of an instance.

    Args:
        instance: the instance.
        now_us: current time, microseconds since the epoch.
    """
    now = to_datetime(now_us)
    beats = [beat.timestamp for beat in instance.get_daemon_heartbeats().values()]
    return DagsterState(
        failed=tuple(failed_runs(instance, now)),
        active=tuple(active_runs(instance)),
        checks=tuple(check_states(instance, now)),
        ticks=tuple(failed_ticks(instance)),
        heartbeat=_instant(max(beats)) if beats else None,
        now=now,
    )


def failed_runs(instance: dg.DagsterInstance, now: datetime) -> Iterable[FailedRun]:
    """Return the failed runs of ``RECENT`` with their errors, newest first."""
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - RECENT)
    last_success: dict[tuple[str, str], float] = {}
    for record in instance.get_run_records(filters, limit=_FAILED_RUNS):
        run = record.dagster_run
        scope, ended = _scope(run), record.end_time or record.update_timestamp.timestamp()
        if (run.job_name, scope) not in last_success:
            last_success[run.job_name, scope] = _last_success(instance, run)
        error = run_error(instance, run.run_id)
        yield FailedRun(
            run_id=run.run_id,
            job=job_title(run.job_name),
            scope=scope,
            error=error,
            failed_at=_instant(ended),
            is_superseded=last_success[run.job_name, scope] > ended,
            is_interrupted=error.endswith(INTERRUPTED),
        )


def job_title(job: str) -> str:
    """Return the name of a job for a user; that of Dagster's job for selected assets is internal."""
    return "asset run" if job.startswith(_ASSET_JOB) else job


def run_error(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the first line of the innermost error of a failed run, without secrets."""
    types = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    events = [entry.dagster_event for entry in instance.all_logs(run_id, of_type=types)]
    known = [event for event in events if event is not None]
    steps = step_errors(event for event in known if event.event_type is dg.DagsterEventType.STEP_FAILURE)
    messages = [event.message for event in known if event.event_type is dg.DagsterEventType.RUN_FAILURE]
    return redact(innermost_line(steps) if steps else (messages[-1:] or [""])[0] or "no error was recorded")


def active_runs(instance: dg.DagsterInstance) -> Iterable[ActiveRun]:
    """Return the runs that have not ended; those whose process has ended without a report have the reason."""
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(_ACTIVE)), limit=_ACTIVE_RUNS):
        run = record.dagster_run
        status = _ACTIVE[run.status]
        has_started = status in ("started", "canceling") and record.start_time is not None
        yield ActiveRun(
            run_id=run.run_id,
            job=job_title(run.job_name),
            status=status,
            since=_instant(record.start_time) if has_started else record.update_timestamp.astimezone(UTC),
            process_problem=None if status == "queued" else process_problem(instance, run),
        )


def check_states(instance: dg.DagsterInstance, now: datetime) -> Iterable[CheckState]:
    """Return the latest evaluation of each check within ``CHECKS_SINCE``, newest first."""
    filters = dg.EventRecordsFilter(
        dg.DagsterEventType.ASSET_CHECK_EVALUATION, after_timestamp=(now - CHECKS_SINCE).timestamp()
    )
    seen: set[tuple[str, str]] = set()
    for record in instance.event_log_storage.get_event_records(filters, limit=_EVALUATIONS):
        state = check_state(record)
        if state is not None and (state.asset, state.check) not in seen:
            seen.add((state.asset, state.check))
            yield state


def check_state(record: dg.EventLogRecord) -> CheckState | None:
    """Return the evaluation of a check in an event; None if the event has none."""
    event = record.event_log_entry.dagster_event
    if event is None:
        return None
    found = event.asset_check_evaluation_data
    return CheckState(
        asset=found.asset_key.to_user_string(),
        check=found.check_name,
        passed=found.passed,
        is_error=found.severity is dg.AssetCheckSeverity.ERROR,
        description=redact(" ".join((found.description or "").split())),
        evaluated_at=_instant(record.event_log_entry.timestamp),
    )


def failed_ticks(instance: dg.DagsterInstance) -> Iterable[FailedTick]:
    """Return the sensors and schedules whose last evaluation failed."""
    for state in instance.all_instigator_state():
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1):
            if tick.is_failure and tick.error is not None:
                error = redact(innermost_line([tick.error.message]))
                yield FailedTick(name=state.name, error=error, at=_instant(tick.timestamp))


def sensor_cursor(instance: dg.DagsterInstance, name: str) -> str | None:
    """Return the cursor of a sensor; None if it has not been evaluated."""
    found = [state for state in instance.all_instigator_state() if state.name == name]
    cursors = [getattr(state.instigator_data, "cursor", None) for state in found]
    return cursors[0] if cursors else None


def _scope(run: dg.DagsterRun) -> str:
    """Return the queue of a run, or the assets of a run of selected assets."""
    if run.job_name.startswith(_ASSET_JOB):
        return listed(sorted(key.to_user_string() for key in run.asset_selection or ()), _NAMED)
    return run.tags.get(QUEUE_TAG, "")


def _last_success(instance: dg.DagsterInstance, run: dg.DagsterRun) -> float:
    """Return the end of the last success of a run's job and queue, seconds since the epoch; 0 if there is none.

    A run of selected assets has succeeded when each of them has been materialized, by any job.
    """
    if run.job_name.startswith(_ASSET_JOB) and run.asset_selection:
        events = [instance.get_latest_materialization_event(key) for key in run.asset_selection]
        return min(0.0 if event is None else event.timestamp for event in events)
    tags = {QUEUE_TAG: scope} if (scope := run.tags.get(QUEUE_TAG)) else {}
    filters = dg.RunsFilter(job_name=run.job_name, tags=tags, statuses=[dg.DagsterRunStatus.SUCCESS])
    newest = instance.get_run_records(filters, limit=1)
    return (newest[0].end_time or 0.0) if newest else 0.0


def _instant(seconds: float | None) -> datetime:
    return datetime.fromtimestamp(seconds or 0.0, UTC)
