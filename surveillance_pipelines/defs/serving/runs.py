"""State of the drain runs of a queue, or the delivery runs of a channel, in Dagster."""

from collections.abc import Container
from typing import Final

import dagster as dg

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.defs import retries
from surveillance_pipelines.defs.run_processes import process_problem, report_gone
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG

_QUEUED: Final = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
_ACTIVE: Final = (*_QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)

MAX_START_SECONDS: Final = 60.0
"""A run without a lease after this time is dead or about to end, even if Dagster records it as started."""

_RUNS_CHECKED: Final = 20

MAX_PAUSE_SECONDS: Final = 120.0
"""Maximum pause before the next run after failures."""


def starting_runs(instance: dg.DagsterInstance, tag: str, known: Container[str], now_us: int) -> int:
    """Return the number of starting runs of a queue or channel, and report those whose process has ended.

    Serving and standby runs are known from the leases, because Dagster may record a killed run as started for minutes.

    Args:
        instance: the Dagster instance.
        tag: value of ``QUEUE_TAG``.
        known: run ids in the leases; these runs have started.
        now_us: current time, microseconds since the epoch.
    """
    filters = dg.RunsFilter(tags={QUEUE_TAG: tag}, statuses=list(_ACTIVE))
    records = instance.get_run_records(filters, limit=_RUNS_CHECKED)
    unknown = [record for record in records if record.dagster_run.run_id not in known]
    return sum(_is_starting(record, now_us) and not _has_ended(instance, record) for record in unknown)


def _is_starting(record: dg.RunRecord, now_us: int) -> bool:
    since = record.start_time or record.update_timestamp.timestamp()
    is_queued = record.dagster_run.status in _QUEUED
    return is_queued or now_us / MICROSECONDS - since < MAX_START_SECONDS


def _has_ended(instance: dg.DagsterInstance, record: dg.RunRecord) -> bool:
    """Return whether the process of a run has ended without a report; then the run is reported as failed."""
    run = record.dagster_run
    problem = None if run.status in _QUEUED else process_problem(instance, run)
    if problem is not None:
        report_gone(instance, run, problem)
    return problem is not None


def pause_left(instance: dg.DagsterInstance, tag: str, now_us: int) -> float:
    """Return the seconds to wait before the next run after consecutive failures; 0 if the newest run did not fail."""
    filters = dg.RunsFilter(tags={QUEUE_TAG: tag})
    return retries.pause_left(instance, filters, now_us, longest_seconds=MAX_PAUSE_SECONDS)
