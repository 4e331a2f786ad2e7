"""Judgement of Dagster's runs, checks, automations and daemon. Pure: ``defs/run_records.py`` reads them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from surveillance_pipelines.services.facts import Fact, Verdict, instant
from surveillance_pipelines.settings import Settings

ActiveStatus = Literal["queued", "starting", "started", "canceling"]

RECENT: Final = timedelta(days=7)
"""Failures of runs that are shown while no later run of the job succeeded."""
SUPERSEDED: Final = timedelta(days=1)
"""Failures of runs that are shown although a later run of the job succeeded."""
CHECKS_SINCE: Final = timedelta(days=30)
"""Evaluations of checks that are read. Every check but those of a training runs daily."""

_LIMIT_SECONDS: Final[dict[ActiveStatus, float]] = {"queued": 600.0, "starting": 240.0, "canceling": 120.0}
"""Longer than the limits of run_monitoring in dagster.yaml, after which a running daemon has ended such a run."""
_UNLIMITED_SECONDS: Final = 86_400.0
_DAEMON_SECONDS: Final = 90.0
"""The daemon sends a heartbeat every 30 s."""
_SERVING_JOBS: Final = ("drain_job", "delivery_job")
"""Jobs whose runs sensors start again, so that an interrupted one needs nothing."""


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A failed run.

    Attributes:
        run_id: id of the run.
        job: name of the job, or "asset run" for a run of selected assets.
        scope: queue, channel or assets of the run; empty for other jobs.
        error: first line of the innermost error.
        failed_at: end of the run.
        is_superseded: whether a later run of the job, for the same queue, succeeded.
        is_interrupted: whether its process was told to stop before the run had ended, as when `surveillance up` ends.
    """

    run_id: str
    job: str
    scope: str
    error: str
    failed_at: datetime
    is_superseded: bool
    is_interrupted: bool = False


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run that has not ended; ``process_problem`` says that its process has ended without a report."""

    run_id: str
    job: str
    status: ActiveStatus
    since: datetime
    process_problem: str | None = None


@dataclass(frozen=True, slots=True)
class CheckState:
    """The latest evaluation of an asset check."""

    asset: str
    check: str
    passed: bool
    is_error: bool
    description: str
    evaluated_at: datetime

    @property
    def name(self) -> str:
        return f"{self.asset}: {self.check}"


@dataclass(frozen=True, slots=True)
class FailedTick:
    """The failed last evaluation of a sensor or schedule."""

    name: str
    error: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DagsterState:
    """State of a Dagster instance.

    Attributes:
        failed: failed runs of ``RECENT``, newest first.
        active: runs that have not ended.
        checks: latest evaluation of each check within ``CHECKS_SINCE``.
        ticks: failed last evaluations of sensors and schedules.
        heartbeat: newest heartbeat of the daemon; None if it has never run.
        now: time at which the state was read.
    """

    failed: tuple[FailedRun, ...]
    active: tuple[ActiveRun, ...]
    checks: tuple[CheckState, ...]
    ticks: tuple[FailedTick, ...]
    heartbeat: datetime | None
    now: datetime


def dagster_facts(state: DagsterState, settings: Settings) -> list[Fact]:
    """Return a line for each cause of failed runs, each stuck run, red check and failed automation, and the daemon."""
    stuck = [fact for run in state.active if (fact := _stuck(run, state.now, settings)) is not None]
    return [
        *(failed_run_facts(state.failed, state.now) or [Fact("failed runs", "ok", "none in the last 7 days")]),
        *(stuck or [Fact("stuck runs", "ok", _active(len(state.active)))]),
        *_check_facts(state.checks),
        *(_tick_fact(tick) for tick in state.ticks),
        _daemon_fact(state),
    ]


def _active(count: int) -> str:
    """Return the result of the check for stuck runs if there is none."""
    return "none; no run is active" if count == 0 else f"none; {count} active {'run' if count == 1 else 'runs'}"


def failed_run_facts(failed: Iterable[FailedRun], now: datetime) -> list[Fact]:
    """Return a line for each job and error.

    An older failure and an interruption are left out if a later run of the job succeeded, and so is every interruption
    of a serving job: its sensor starts the next run.
    """
    causes: dict[tuple[str, str, str], list[FailedRun]] = {}
    for run in failed:
        if run.is_interrupted and run.job in _SERVING_JOBS:
            continue
        if not run.is_superseded or (now - run.failed_at < SUPERSEDED and not run.is_interrupted):
            causes.setdefault((run.job, run.scope, run.error), []).append(run)
    return [_failure_fact(runs) for runs in causes.values()]


def _failure_fact(runs: Sequence[FailedRun]) -> Fact:
    newest = runs[0]
    scope = f" of {newest.scope}" if newest.scope else ""
    count = "" if len(runs) == 1 else f"{len(runs)} times, last in "
    found = f"{count}run {newest.run_id[:8]}{scope} at {instant(newest.failed_at)}: {newest.error}"
    if newest.is_superseded:
        return Fact(f"failed {newest.job}", "warn", f"{found}; a later run succeeded")
    if newest.is_interrupted:
        cause = f"{found}, because its process was told to stop, as by the end of `surveillance up`"
        again = f"if its result is missing, re-execute it in the Dagster UI (`surveillance up`), id {newest.run_id[:8]}"
        return Fact(f"interrupted {newest.job}", "warn", cause, again)
    remedy = f"open the run in the Dagster UI (`surveillance up`), under Runs, id {newest.run_id[:8]}"
    return Fact(f"failed {newest.job}", "fail", found, remedy)


def longest_seconds(job: str, settings: Settings) -> float | None:
    """Return the longest duration of a run of a job; None if its work has no limit.

    A standby waits for the window of the serving run before its own.
    """
    if job in _SERVING_JOBS:
        return 2 * settings.drain_window_seconds + 300.0
    return 2 * settings.model_training_max_duration_seconds + 1800.0 if job == "training_job" else None


def _stuck(run: ActiveRun, now: datetime, settings: Settings) -> Fact | None:
    name, seconds = f"stuck {run.job}", (now - run.since).total_seconds()
    found = f"run {run.run_id[:8]} is {run.status} since {instant(run.since)}"
    if run.process_problem is not None:
        remedy = "the daemon (`surveillance up`) reports it as failed within 15 s"
        return Fact(name, "fail", f"{found}: {run.process_problem}", remedy)
    longest = longest_seconds(run.job, settings)
    limit = _LIMIT_SECONDS.get(run.status) or longest or _UNLIMITED_SECONDS
    if seconds <= limit:
        return None
    if run.status == "queued":
        remedy = "start the daemon (`surveillance up`); dagster.yaml limits how many runs start at once"
        return Fact(name, "warn", found, remedy)
    verdict: Verdict = "warn" if run.status == "started" and longest is None else "fail"
    remedy = f"if it does no work, terminate it in the Dagster UI (`surveillance up`), under Runs, id {run.run_id[:8]}"
    return Fact(name, verdict, f"{found}, longer than {limit:,.0f} s", remedy)


def _check_facts(checks: Sequence[CheckState]) -> list[Fact]:
    red = [check for check in checks if not check.passed]
    if not red:
        found = f"{len(checks)} evaluated, none failed" if checks else "none has been evaluated in the last 30 days"
        return [Fact("asset checks", "ok", found)]
    remedy = "find the check in docs/runbook.md; its details are in the Dagster UI (`surveillance up`)"
    return [
        Fact(
            f"check {check.name}",
            "fail" if check.is_error else "warn",
            f"failed at {instant(check.evaluated_at)}: {check.description or 'no description'}",
            remedy,
        )
        for check in red
    ]


def _tick_fact(tick: FailedTick) -> Fact:
    found = f"its last evaluation failed at {instant(tick.at)}: {tick.error}"
    return Fact(f"automation {tick.name}", "fail", found, "open it in the Dagster UI, under Automation")


def _daemon_fact(state: DagsterState) -> Fact:
    if state.heartbeat is None:
        return Fact("daemon", "ok", "has not run yet; `surveillance up` starts it, and with it sensors and schedules")
    seconds = (state.now - state.heartbeat).total_seconds()
    if seconds > _DAEMON_SECONDS:
        found = f"stopped: last heartbeat {instant(state.heartbeat)}; no queue is served and no schedule starts"
        return Fact("daemon", "warn", found, "`surveillance up`, or `docker compose up -d daemon`")
    return Fact("daemon", "ok", f"last heartbeat {instant(state.heartbeat)}, {seconds:.0f} s ago")
