"""Drain runs of one queue, as Dagster knows them."""

from typing import Final

import dagster as dg

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG, queue_tag

_ACTIVE: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

FIRST_PAUSE_SECONDS: Final = 10.0
LONGEST_PAUSE_SECONDS: Final = 120.0
"""After a failure the next try waits, twice as long each time: what fails at once would otherwise fail all day."""


def has_run(instance: dg.DagsterInstance, queue_url: str) -> bool:
    """Say whether a drain run of a queue is running or on its way."""
    filters = dg.RunsFilter(tags={QUEUE_TAG: queue_tag(queue_url)}, statuses=_ACTIVE)
    return instance.get_runs_count(filters) > 0


def pause_left(instance: dg.DagsterInstance, queue_url: str, now_us: int) -> float:
    """Return the seconds to wait before the next drain run, because the newest ones failed; 0 for none."""
    filters = dg.RunsFilter(tags={QUEUE_TAG: queue_tag(queue_url)})
    newest = instance.get_run_records(filters, limit=8)
    failures = 0
    for record in newest:
        if record.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
            break
        failures += 1
    if failures == 0 or newest[0].end_time is None:
        return 0.0
    pause = min(FIRST_PAUSE_SECONDS * 2 ** (failures - 1), LONGEST_PAUSE_SECONDS)
    return max(0.0, newest[0].end_time + pause - now_us / MICROSECONDS)
