"""Outcomes of predictions: the move that followed a bar, and the correct direction."""

import polars as pl

from surveillance_pipelines.contracts.predictions import DIRECTIONS
from surveillance_pipelines.evaluation.direction_labels import HORIZON_MINUTES, direction_labels, forward_returns


def outcomes(features: pl.DataFrame) -> pl.DataFrame:
    """Return the outcome of every bar that has a later bar close to the end of its horizon.

    Args:
        features: columns symbol, date, bar_start, close, realised_volatility.

    Returns:
        symbol, bar_start, outcome_return (log return over the horizon), outcome_direction (SELL, HOLD or BUY, with the
        band of the training labels), outcome_at (end of the horizon), is_over (whether the day has a bar of any symbol
        at that end or later; until then, a bar closer to the end may still arrive).
    """
    moved = features.with_columns(outcome_return=forward_returns(features))
    labelled = moved.with_columns(label=direction_labels(pl.col("outcome_return"), pl.col("realised_volatility")))
    ends = pl.col("bar_start") + pl.duration(minutes=HORIZON_MINUTES)
    seen = labelled.with_columns(is_over=ends <= pl.col("bar_start").max().over("date"))
    return seen.filter(pl.col("label").is_not_null()).select(
        "symbol",
        "bar_start",
        "outcome_return",
        pl.col("label").replace_strict(dict(enumerate(DIRECTIONS)), return_dtype=pl.String).alias("outcome_direction"),
        ends.alias("outcome_at"),
        "is_over",
    )
