"""Outcomes of the predictions in PostgreSQL."""

from datetime import date, timedelta
from typing import Any, Final

import polars as pl
import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now

_SETTLE: Final = """
    UPDATE surveillance.predictions AS prediction
    SET outcome_return = known.outcome_return, outcome_direction = known.outcome_direction,
        outcome_at = known.outcome_at
    FROM unnest(%s::text[], %s::timestamptz[], %s::float8[], %s::text[], %s::timestamptz[])
         AS known (symbol, bar_start, outcome_return, outcome_direction, outcome_at)
    WHERE prediction.symbol = known.symbol AND prediction.bar_start = known.bar_start
      AND prediction.outcome_at IS NULL AND prediction.horizon_minutes = %s
"""

_OPEN: Final = """
    SELECT count(*) FILTER (WHERE outcome_at IS NULL), count(*) FROM surveillance.predictions
    WHERE bar_start >= %s AND bar_start < %s
"""


_SETTLED_BY: Final = ("symbol", "bar_start", "outcome_return", "outcome_direction", "outcome_at")


def settle(
    connection: psycopg.Connection[Any], known: pl.DataFrame, *, horizon_minutes: int, clock: Clock = SYSTEM_CLOCK
) -> int:
    """Write outcomes to the predictions that have none yet, and return the number of rows updated.

    A written outcome never changes. On the current day, only outcomes with an elapsed horizon are written.

    Args:
        connection: an open connection; the caller commits.
        known: symbol, bar_start, outcome_return, outcome_direction, outcome_at, is_over.
        horizon_minutes: horizon of the predictions to update.
        clock: determines the current UTC day.
    """
    final = known.filter(pl.col("is_over") | (pl.col("bar_start").dt.date() < now(clock).date()))
    columns = [final[name].to_list() for name in _SETTLED_BY]
    return connection.execute(_SETTLE, (*columns, horizon_minutes)).rowcount


def open_predictions(connection: psycopg.Connection[Any], first: date, last: date) -> tuple[int, int]:
    """Return the number of predictions without an outcome, and of all, in a range of UTC days, both included."""
    row = connection.execute(_OPEN, (first, last + timedelta(days=1))).fetchone()
    assert row is not None
    return row
