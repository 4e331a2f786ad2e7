"""What became of predictions: the move that followed a bar, and which call would have been right."""

import polars as pl

from surveillance_pipelines.models.direction import HORIZON_MINUTES, direction_labels, forward_returns
from surveillance_pipelines.models.scoring import DIRECTIONS


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
