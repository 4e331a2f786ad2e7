"""Failed Dagster runs and their errors."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg

from surveillance_pipelines.contracts.text import storable

_RECORD: Final = """
    INSERT INTO ops.run_failures (run_id, job, queue, error, failed_at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (run_id) DO NOTHING
"""
_LAST_ERROR: Final = "SELECT error FROM ops.run_failures WHERE queue = %s ORDER BY failed_at DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class RunFailure:
    """One failed Dagster run; ``queue`` is set for a drain run."""

    run_id: str
    job: str
    queue: str | None
    error: str
    failed_at: datetime


def record_failure(connection: psycopg.Connection[Any], failure: RunFailure) -> None:
    """Record a failure, once per run."""
    values = (failure.run_id, failure.job, failure.queue, storable(failure.error), failure.failed_at)
    connection.execute(_RECORD, values)


def last_error(connection: psycopg.Connection[Any], queue: str) -> str | None:
    """Return the error of the newest recorded failure of a queue's runs; None if there is none."""
    row = connection.execute(_LAST_ERROR, (queue,)).fetchone()
    return None if row is None else row[0]
