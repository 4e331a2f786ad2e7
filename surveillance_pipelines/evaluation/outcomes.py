"""What became of predictions: the move that followed a bar, and which call would have been right."""

from datetime import date, timedelta
from typing import Any, Final

import polars as pl
import psycopg

from surveillance_pipelines.models.direction import HORIZON_MINUTES, direction_labels, forward_returns
from surveillance_pipelines.models.scoring import DIRECTIONS

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


def outcomes(features: pl.DataFrame) -> pl.DataFrame:
    """Return the outcome of every bar whose horizon is over.

    Args:
        features: columns symbol, date, bar_start, close, realised_volatility.

    Returns:
        symbol, bar_start, outcome_return (log return over the horizon), outcome_direction (SELL, HOLD or BUY, with the
        band of the training labels), outcome_at (the end of the horizon).
    """
    moved = features.with_columns(outcome_return=forward_returns(features))
    labelled = moved.with_columns(label=direction_labels(pl.col("outcome_return"), pl.col("realised_volatility")))
    return labelled.filter(pl.col("label").is_not_null()).select(
        "symbol",
        "bar_start",
        "outcome_return",
        pl.col("label").replace_strict(dict(enumerate(DIRECTIONS)), return_dtype=pl.String).alias("outcome_direction"),
        (pl.col("bar_start") + pl.duration(minutes=HORIZON_MINUTES)).alias("outcome_at"),
    )


def settle(connection: psycopg.Connection[Any], known: pl.DataFrame) -> int:
    """Write outcomes onto the predictions that wait for them, and return how many there were."""
    columns = [known[name].to_list() for name in known.columns]
    return connection.execute(_SETTLE, (*columns, HORIZON_MINUTES)).rowcount


def open_predictions(connection: psycopg.Connection[Any], first: date, last: date) -> tuple[int, int]:
    """Return how many predictions of a range of UTC days, both included, have no outcome, and how many there are."""
    row = connection.execute(_OPEN, (first, last + timedelta(days=1))).fetchone()
    assert row is not None
    return row
