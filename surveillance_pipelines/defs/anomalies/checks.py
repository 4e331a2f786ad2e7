"""Results of the checks on scores."""

from collections.abc import Mapping

import dagster as dg


def scores_result(outside: Mapping[str, int]) -> dg.AssetCheckResult:
    """Return the result of ``scores_are_finite``; ``outside`` maps a column to its number of invalid values."""
    return dg.AssetCheckResult(
        asset_key="scores", check_name="scores_are_finite", passed=not outside, metadata={"outside": dict(outside)}
    )
