"""Dagster runs that a command starts on the persistent instance, with their progress.

Each run has a separate process (``run_job.py``), so that its imports and memory are released when it ends and the
command can show progress. The run is not queued and needs no daemon.
"""

import json
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.commands.children import Child
from surveillance_pipelines.commands.console import progress
from surveillance_pipelines.commands.dagster_events import Check, RunWatch
from surveillance_pipelines.commands.dagster_home import open_instance, prepare
from surveillance_pipelines.contracts.errors import OperationFailedError
from surveillance_pipelines.services.platform import Platform

_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """Result of a run. ``materialized`` maps an asset key to the metadata of its last materialization."""

    run_id: str
    succeeded: bool
    materialized: dict[str, dict[str, Any]]
    checks: tuple[Check, ...]
    errors: tuple[str, ...]
    seconds: float

    def require_success(self, what: str) -> "RunOutcome":
        """Return ``self``, or raise ``OperationFailedError`` with the errors of the failed steps."""
        if self.succeeded:
            return self
        refused = [f"{check.asset}: {check.summary}" for check in self.checks if check.blocking and not check.passed]
        reasons = (
            "\n".join(f"  {line}" for line in refused or self.errors)
            or "  no error was logged; the process of the run ended early"
        )
        raise OperationFailedError(
            f"{what} failed; errors of run {self.run_id}:\n{reasons}",
            remedy=f"open the run in the Dagster UI (`surveillance up`), under Runs, id {self.run_id[:8]}",
        )


def run_job(
    platform: Platform,
    job: str,
    *,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any] | None = None,
    location: str = "surveillance_pipelines",
    environment: Mapping[str, str] | None = None,
) -> RunOutcome:
    """Execute one run of a job, show its progress by steps, and return its result.

    Args:
        platform: platform with the services and the Dagster instance of the run.
        job: name of the job.
        tags: tags of the run, including those of a day range.
        run_config: run config.
        location: code location that holds the job.
        environment: additional environment variables of the run's process.
    """
    run_id = str(uuid.uuid4())
    request = {
        "location": location,
        "job_name": job,
        "run_id": run_id,
        "tags": dict(tags),
        "run_config": dict(run_config or {}),
    }
    command = [sys.executable, "-m", "surveillance_pipelines.commands.run_job", json.dumps(request)]
    log = platform.home / "logs" / f"{job}-{run_id[:8]}.log"
    started = SYSTEM_CLOCK.now_us()
    with open_instance(platform) as instance:
        watch = RunWatch(instance, run_id)
        child = Child(f"the run of {job}", command, {**prepare(platform), **(environment or {})}, log)
        try:
            _follow(watch, child, job)
        finally:
            child.stop()
        if child.exit_code and not watch.errors:
            watch.errors.append(f"exit code {child.exit_code}; {log} ends with:\n{child.tail()}")
        seconds = (SYSTEM_CLOCK.now_us() - started) / 1e6
        return RunOutcome(
            run_id, watch.succeeded(), watch.materialized, tuple(watch.checks), tuple(watch.errors), seconds
        )


def _follow(watch: RunWatch, child: Child, title: str) -> None:
    """Show the steps of a run until its process has ended."""
    with progress(title, total=1) as bar:
        ended = False
        while not ended:
            ended = child.exit_code is not None
            watch.poll()
            bar.set(len(watch.done), total=max(watch.steps, 1), note=_note(watch, ended=ended))
            if not ended:
                SYSTEM_CLOCK.sleep(_POLL_SECONDS)


def cancel_unfinished_runs(platform: Platform, reason: str) -> int:
    """Report the runs that the database calls unfinished as canceled, and return their number.

    For a restored home, in which no run has a process. A canceled run is not retried.
    """
    with open_instance(platform) as instance:
        import dagster as dg

        ended = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
        unfinished = instance.get_runs(dg.RunsFilter(statuses=list(set(dg.DagsterRunStatus) - ended)))
        for run in unfinished:
            instance.report_run_canceled(run, reason)
    return len(unfinished)


def _note(watch: RunWatch, *, ended: bool) -> str:
    """Return the steps in progress, or the state of a run without one."""
    if ended:
        return ""
    if watch.running:
        return f"running {', '.join(watch.running)}"
    if watch.steps and len(watch.done) >= watch.steps:
        return "ending"
    return "starting a step" if watch.done else "starting"
