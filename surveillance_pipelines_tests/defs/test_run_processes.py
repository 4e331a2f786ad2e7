"""Runs whose process was killed: recognised by the process table, and reported once."""

import json
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest

from surveillance_pipelines.defs.dagster_internals import GRPC_INFO_TAG
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.run_processes import (
    GONE_TAG,
    MACHINE_TAG,
    PROCESS_TAG,
    machine,
    process_problem,
)
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG, queue_tag
from surveillance_pipelines.defs.serving.runs import pause_left, starting_runs

_WORKER = "import multiprocessing, time; time.sleep(120)"


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", _WORKER])
    yield process
    process.kill()
    process.wait()


def started(instance: dg.DagsterInstance, pid: int | None, *, where: str = "", queue: str = "q") -> dg.DagsterRun:
    """Put a started run on record; ``pid`` as Dagster's code server reports it."""
    tags = {MACHINE_TAG: where or machine(), QUEUE_TAG: queue}
    run = dg.DagsterRun(job_name="drain_job", tags=tags, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    if pid is not None:
        instance.report_engine_event(f"Started process for run (pid: {pid}).", run)
    return run


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_run_with_a_living_process_has_no_problem(instance, worker):
    assert process_problem(instance, started(instance, worker.pid)) is None


def test_run_with_a_killed_process_says_so(instance):
    problem = process_problem(instance, started(instance, ended_pid()))
    assert problem is not None
    assert "has ended without a report" in problem


def test_pid_of_another_program_is_not_the_run(instance):
    other = subprocess.Popen(["sleep", "60"])
    try:
        assert process_problem(instance, started(instance, other.pid)) is not None
    finally:
        other.kill()
        other.wait()


def test_pid_that_a_newer_run_has_is_not_the_older_run(instance, worker):
    older, newer = started(instance, worker.pid), started(instance, worker.pid)
    assert "another run has that pid" in str(process_problem(instance, older))
    assert process_problem(instance, newer) is None


def test_run_of_another_machine_is_not_judged(instance):
    assert process_problem(instance, started(instance, ended_pid(), where="elsewhere")) is None


def test_run_of_a_code_server_in_another_container_is_judged_there_and_not_by_its_launcher(instance):
    """The daemon's container has other processes, or none, with the pids of the code server's container."""
    run = started(instance, ended_pid())
    for host, is_judged in (("platform", False), (machine(), True), ("localhost", True)):
        instance.add_run_tags(run.run_id, {GRPC_INFO_TAG: json.dumps({"host": host, "port": 4000})})
        found = instance.get_run_by_id(run.run_id)
        assert (process_problem(instance, found) is not None) == is_judged, host


def test_run_of_a_command_is_judged_by_its_tag(instance):
    run = dg.DagsterRun(job_name="j", tags={MACHINE_TAG: machine(), PROCESS_TAG: str(ended_pid())},
                        status=dg.DagsterRunStatus.STARTED)  # fmt: skip
    instance.add_run(run)
    assert process_problem(instance, run) is not None


def test_killed_run_neither_counts_as_starting_nor_delays_the_next(platform: PlatformResource, instance):
    queue, now_us = queue_tag(platform.endpoints.queue_urls[0]), platform.clock.now_us()
    run = started(instance, ended_pid(), queue=queue)
    assert starting_runs(instance, queue, frozenset(), now_us) == 0
    found = instance.get_run_by_id(run.run_id)
    assert (found.status, found.tags[GONE_TAG]) == (dg.DagsterRunStatus.FAILURE, "true")
    assert pause_left(instance, queue, now_us) == 0.0
