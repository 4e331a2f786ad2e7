"""Drain runs of one queue, as Dagster knows them."""

from typing import Final

import dagster as dg

from surveillance_pipelines.defs import retries
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG, queue_tag

_ACTIVE: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

LONGEST_PAUSE_SECONDS: Final = 120.0
"""Between two tries of a drain run that fails."""


def active_runs(instance: dg.DagsterInstance, queue_url: str) -> int:
    """Return how many drain runs of a queue are running or on their way."""
    return instance.get_runs_count(dg.RunsFilter(tags={QUEUE_TAG: queue_tag(queue_url)}, statuses=_ACTIVE))


def pause_left(instance: dg.DagsterInstance, queue_url: str, now_us: int) -> float:
    """Return the seconds to wait before the next drain run, because the newest ones failed; 0 for none."""
    filters = dg.RunsFilter(tags={QUEUE_TAG: queue_tag(queue_url)})
    return retries.pause_left(instance, filters, now_us, longest_seconds=LONGEST_PAUSE_SECONDS)
