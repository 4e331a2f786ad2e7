"""Drain runs of one queue, as Dagster knows them."""

from collections.abc import Container
from typing import Final

import dagster as dg

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.defs import retries
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG, queue_tag

_WAITING: Final = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
_ACTIVE: Final = (*_WAITING, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)

LONGEST_START_SECONDS: Final = 60.0
"""A run that neither serves nor stands by after so long is dead or about to end, whatever Dagster's books say."""

_LOOKED_AT: Final = 20

LONGEST_PAUSE_SECONDS: Final = 120.0
"""Between two tries of a drain run that fails."""


def starting_runs(instance: dg.DagsterInstance, queue_url: str, known: Container[str], now_us: int) -> int:
    """Return how many drain runs of a queue are on their way.

    The leases say who serves and who stands by: a run that was killed may look started to Dagster for minutes.

    Args:
        instance: Dagster's.
        queue_url: which queue.
        known: run ids in the queue's leases; these have arrived.
        now_us: microseconds since the epoch.
    """
    filters = dg.RunsFilter(tags={QUEUE_TAG: queue_tag(queue_url)}, statuses=list(_ACTIVE))
    records = instance.get_run_records(filters, limit=_LOOKED_AT)
    return sum(record.dagster_run.run_id not in known and _may_arrive(record, now_us) for record in records)


def _may_arrive(record: dg.RunRecord, now_us: int) -> bool:
    since = record.start_time or record.update_timestamp.timestamp()
    waits = record.dagster_run.status in _WAITING
    return waits or now_us / MICROSECONDS - since < LONGEST_START_SECONDS


def pause_left(instance: dg.DagsterInstance, queue_url: str, now_us: int) -> float:
    """Return the seconds to wait before the next drain run, because the newest ones failed; 0 for none."""
    filters = dg.RunsFilter(tags={QUEUE_TAG: queue_tag(queue_url)})
    return retries.pause_left(instance, filters, now_us, longest_seconds=LONGEST_PAUSE_SECONDS)
