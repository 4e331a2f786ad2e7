"""Promises about scores."""

from collections.abc import Mapping

import dagster as dg


def scores_result(outside: Mapping[str, int]) -> dg.AssetCheckResult:
    """Say whether every score and probability is a number from 0 to 1, given how many of each column are not."""
    return dg.AssetCheckResult(
        asset_key="scores", check_name="scores_are_finite", passed=not outside, metadata={"outside": dict(outside)}
    )
