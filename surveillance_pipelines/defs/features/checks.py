"""Results of the checks on features."""

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    import polars as pl


def finiteness_result(features: "pl.DataFrame", view: str) -> dg.AssetCheckResult:
    """Return the result of ``features_are_finite``."""
    from surveillance_pipelines.features.finiteness import finiteness
    from surveillance_pipelines.features.views import VIEWS

    found = finiteness(features, VIEWS[view])
    return dg.AssetCheckResult(
        check_name="features_are_finite",
        passed=found.holds,
        metadata={
            "infinite": found.infinite,
            "undefined": found.undefined,
            "nan_share": {name: round(share, 4) for name, share in found.nan_share.items()},
        },
    )
