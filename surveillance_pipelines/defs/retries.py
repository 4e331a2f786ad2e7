"""Backoff of sensors after failed runs."""

from typing import Final

import dagster as dg

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.defs.run_processes import GONE_TAG

FIRST_PAUSE_SECONDS: Final = 10.0
"""Pause after the first failure, doubled after each further one, so that a persistent error does not start runs all
day."""

_RUNS_CHECKED: Final = 12


def pause_left(instance: dg.DagsterInstance, filters: dg.RunsFilter, now_us: int, *, longest_seconds: float) -> float:
    """Return the remaining pause in seconds before the next matching run, due to consecutive failures; 0 for none."""
    newest = instance.get_run_records(filters, limit=_RUNS_CHECKED)
    failures = 0
    for record in newest:
        if record.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
            break
        failures += 1
    if failures == 0 or newest[0].end_time is None:
        return 0.0
    if failures == 1 and GONE_TAG in newest[0].dagster_run.tags:
        return 0.0  # the run was killed, which a new run does not repeat
    pause = min(FIRST_PAUSE_SECONDS * 2 ** (failures - 1), longest_seconds)
    return max(0.0, newest[0].end_time + pause - now_us / MICROSECONDS)
