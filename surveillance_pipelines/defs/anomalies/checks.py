"""Promises about scores."""

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    import polars as pl

UNIT_COLUMNS = ("anomaly_score", "confidence", "sell_probability", "hold_probability", "buy_probability")


def scores_result(scores: "pl.DataFrame") -> dg.AssetCheckResult:
    """Say whether every score and probability is a number from 0 to 1."""
    from surveillance_pipelines.serving.quality import outside_unit_interval

    outside = outside_unit_interval(scores, UNIT_COLUMNS)
    return dg.AssetCheckResult(
        asset_key="scores", check_name="scores_are_finite", passed=not outside, metadata={"outside": outside}
    )
