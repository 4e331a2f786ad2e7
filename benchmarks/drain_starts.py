"""Time from the start of a drain run to its first commit, as a process and launched by Dagster."""

import statistics
import tempfile
from pathlib import Path
from typing import Final

import dagster as dg

from benchmarks.dagster_lane import DagsterLane, dagster_lane
from benchmarks.drain_processes import Runs, until
from benchmarks.live_lane import entries, make_lane, random_ticks, services
from benchmarks.models import ProofModels
from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, to_us
from surveillance_pipelines.commands import dagster_home

ROUNDS: Final = 3

_FIRST_COMMIT: Final = "SELECT min(committed_at) FROM ops.ledger"


def started_drains(models: ProofModels) -> dict[str, float]:
    """Return ``drain_process_s`` and ``dagster_launch_s``; a message is in the queue before each run starts."""
    with dagster_lane(models) as lane:
        lane.begin()
        launched = _since_launch(lane)
    return {"drain_process_s": statistics.median(_processes(models)), "dagster_launch_s": launched}


def _processes(models: ProofModels) -> list[float]:
    seconds: list[float] = []
    with services() as found, tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS + 1):
            lane = make_lane(found, Path(folder), models)
            lane.inputs[0].send(entries(random_ticks(1, begin_us=SYSTEM_CLOCK.now_us())))
            runs, begin = Runs(lane, Path(folder)), SYSTEM_CLOCK.now_us()
            try:
                runs.start()
                until(lambda lane=lane: lane.query(_FIRST_COMMIT)[0][0])
            finally:
                runs.end()
            seconds.append((to_us(lane.query(_FIRST_COMMIT)[0][0]) - begin) / MICROSECONDS)
    return seconds[1:]


def _since_launch(lane: DagsterLane) -> float:
    """Return the seconds from the launch of the first drain run to its first commit."""
    with lane.platform.connect() as connection:
        ((committed,),) = connection.execute(_FIRST_COMMIT.encode()).fetchall()
    with dagster_home.open_instance(lane.platform) as instance:
        run = instance.get_runs(dg.RunsFilter(job_name="drain_job"))[-1]
        launched = instance.get_run_stats(run.run_id).launch_time
    if launched is None:
        raise RuntimeError(f"expected the launch of run {run.run_id} on record, there is none")
    return to_us(committed) / MICROSECONDS - launched
