"""Drain runs of one queue, or delivery runs of one channel, as Dagster knows them."""

from collections.abc import Container
from typing import Final

import dagster as dg

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.defs import retries
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG

_WAITING: Final = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
_ACTIVE: Final = (*_WAITING, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)

LONGEST_START_SECONDS: Final = 60.0
"""A run that neither serves nor stands by after this long is dead or about to end, whatever Dagster records."""

_LOOKED_AT: Final = 20

LONGEST_PAUSE_SECONDS: Final = 120.0
"""Longest pause before the next run after failures."""


def starting_runs(instance: dg.DagsterInstance, tag: str, known: Container[str], now_us: int) -> int:
    """Return how many runs of a queue or channel are starting.

    The leases say who serves and who stands by: to Dagster, a run that was killed may look started for minutes.

    Args:
        instance: Dagster's.
        tag: value of ``QUEUE_TAG``.
        known: run ids in the leases; these runs have started.
        now_us: microseconds since the epoch.
    """
    filters = dg.RunsFilter(tags={QUEUE_TAG: tag}, statuses=list(_ACTIVE))
    records = instance.get_run_records(filters, limit=_LOOKED_AT)
    return sum(record.dagster_run.run_id not in known and _may_arrive(record, now_us) for record in records)


def _may_arrive(record: dg.RunRecord, now_us: int) -> bool:
    since = record.start_time or record.update_timestamp.timestamp()
    waits = record.dagster_run.status in _WAITING
    return waits or now_us / MICROSECONDS - since < LONGEST_START_SECONDS


def pause_left(instance: dg.DagsterInstance, tag: str, now_us: int) -> float:
    """Return the seconds to wait before the next run, because the newest ones failed; 0 for none."""
    filters = dg.RunsFilter(tags={QUEUE_TAG: tag})
    return retries.pause_left(instance, filters, now_us, longest_seconds=LONGEST_PAUSE_SECONDS)
