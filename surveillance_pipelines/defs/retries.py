"""When a sensor may ask again for what has just failed."""

from typing import Final

import dagster as dg

from surveillance_pipelines.clock import MICROSECONDS

FIRST_PAUSE_SECONDS: Final = 10.0
"""After a failure the next try waits, twice as long each time: what fails at once would otherwise fail all day."""

_LOOKED_AT: Final = 12


def pause_left(instance: dg.DagsterInstance, filters: dg.RunsFilter, now_us: int, *, longest_seconds: float) -> float:
    """Return the seconds to wait before the next of some runs, because the newest ones failed; 0 for none."""
    newest = instance.get_run_records(filters, limit=_LOOKED_AT)
    failures = 0
    for record in newest:
        if record.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
            break
        failures += 1
    if failures == 0 or newest[0].end_time is None:
        return 0.0
    pause = min(FIRST_PAUSE_SECONDS * 2 ** (failures - 1), longest_seconds)
    return max(0.0, newest[0].end_time + pause - now_us / MICROSECONDS)
