"""Recognition of runs whose process has ended without a report, whatever killed it.

Dagster's default launcher does not check started runs: after a kill of their code server, or a restart of the machine,
they stay STARTED and keep their slots. ``LocalRunLauncher`` gives this check to Dagster's run monitoring; the sensor of
the queues uses it too, so that a new drain run need not wait for the monitoring.

A run is judged only on the machine of its process: of the command or code server that starts it. In containers, the
daemon launches a run and the code server's container executes it. Times are not compared, because the clock may be set:
a process is the run's if it has the recorded pid, is a run worker of this Dagster home, and no newer run has started
with that pid.
"""

import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import dagster as dg
import psutil

from surveillance_pipelines.defs.dagster_internals import (
    GRPC_INFO_TAG,
    CheckRunHealthResult,
    LaunchRunContext,
    WorkerStatus,
)

MACHINE_TAG: Final = "surveillance/machine"
"""Tag of a run: name of the machine that launched it."""
PROCESS_TAG: Final = "surveillance/process"
"""Tag of a run that a command executes: pid of its process. Dagster records other pids as events."""
GONE_TAG: Final = "surveillance/process_gone"
"""Tag of a run that was reported as failed because its process had ended."""

_PID: Final = re.compile(r"Started process for run \(pid: (\d+)\)")
_WORKERS: Final = ("multiprocessing", "surveillance_pipelines.commands.run_job")
_ACTIVE: Final = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)
_RUNS_CHECKED: Final = 100
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class LocalRunLauncher(dg.DefaultRunLauncher):
    """Dagster's default launcher, with a check of the processes of started runs."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Record the machine, then launch the run."""
        self._instance.add_run_tags(context.dagster_run.run_id, {MACHINE_TAG: machine()})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return FAILED with the reason if the run's process has ended, else RUNNING."""
        problem = process_problem(self._instance, run)
        if problem is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._instance.add_run_tags(run.run_id, {GONE_TAG: "true"})
        return CheckRunHealthResult(WorkerStatus.FAILED, problem)


def machine() -> str:
    """Return the name of this machine or container."""
    return socket.gethostname()


def own_process() -> dict[str, str]:
    """Return the tags of a run that this process executes."""
    return {MACHINE_TAG: machine(), PROCESS_TAG: str(os.getpid())}


def process_problem(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """Return why the process of an active run is known to have ended; None if it runs or cannot be judged here."""
    if _machine_of(run.tags) != machine():
        return None
    pid = _pid(instance, run)
    if pid is None:
        return _code_server_problem(run.tags)
    if not _is_worker(pid):
        return f"the process {pid} of the run has ended without a report: it was killed, or the machine restarted"
    if _newest_claim(instance, pid) != run.run_id:
        return f"the process {pid} of the run was killed; another run has that pid"
    return None


def _machine_of(tags: Mapping[str, str]) -> str | None:
    """Return the machine of a run's process: the host of a code server that is reached by port, else the launcher's."""
    address = json.loads(tags.get(GRPC_INFO_TAG, "{}"))
    host = address.get("host") if address.get("port") else None
    return tags.get(MACHINE_TAG) if host in (None, *_LOOPBACK) else host


def report_gone(instance: dg.DagsterInstance, run: dg.DagsterRun, problem: str) -> None:
    """Report a run as failed, unless it has ended meanwhile."""
    current = instance.get_run_by_id(run.run_id)
    if current is None or current.is_finished:
        return
    instance.add_run_tags(run.run_id, {GONE_TAG: "true"})
    instance.report_run_failed(current, f"{problem}.")


def _pid(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int | None:
    if recorded := run.tags.get(PROCESS_TAG):
        return int(recorded)
    found = [int(match[1]) for message in _messages(instance, run.run_id) if (match := _PID.match(message))]
    return found[-1] if found else None


def _messages(instance: dg.DagsterInstance, run_id: str) -> Sequence[str]:
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    return [event.dagster_event.message or "" for event in events if event.dagster_event is not None]


def _newest_claim(instance: dg.DagsterInstance, pid: int) -> str | None:
    """Return the newest active run that started with a pid."""
    records = instance.get_run_records(dg.RunsFilter(statuses=list(_ACTIVE)), limit=_RUNS_CHECKED)
    return next(
        (record.dagster_run.run_id for record in records if _pid(instance, record.dagster_run) == pid),
        None,
    )


def _is_worker(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline())
        return process.status() != psutil.STATUS_ZOMBIE and any(worker in command for worker in _WORKERS)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _code_server_problem(tags: Mapping[str, str]) -> str | None:
    """Return why a run that has not started yet never will: its code server has ended."""
    address = json.loads(tags.get(GRPC_INFO_TAG, "{}")).get("socket")
    if address is None or (Path(address).exists() and _accepts(address)):
        return None
    return "the code server that was starting the run has ended"


def _accepts(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(address) == 0
