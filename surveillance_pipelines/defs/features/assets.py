"""The asset of features in the lake, partitioned by day."""

from typing import Final

import dagster as dg

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import DAILY, OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.features.checks import finiteness_result
from surveillance_pipelines.defs.metadata import frame_metadata
from surveillance_pipelines.defs.resources import PlatformResource

TABLE: Final = "features_core_v1"


@dg.asset(
    name=TABLE,
    group_name="features",
    kinds={"polars", "numba", "deltalake"},
    owners=OWNERS,
    partitions_def=DAYS,
    deps=["bars_1m", "trading_sessions"],
    freshness_policy=DAILY,
    tags=tags("warehouse", "lake") | {"surveillance/feature-view": "core_v1"},
    code_version=code_version("services.feature_table"),
    check_specs=[
        dg.AssetCheckSpec(
            "features_are_finite",
            asset=TABLE,
            blocking=True,
            description="No feature is infinite, and features that are always defined are never missing.",
        )
    ],
)
def features_core_v1(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Feature view `core_v1` of every revision-0 bar, computed with the same formulas as the live lane.

    The state of a day is rebuilt from the 512 bars before it, so days can be computed in any order.
    """
    from surveillance_pipelines.features.views import CORE_V1
    from surveillance_pipelines.services.feature_table import compute_feature_days

    done = compute_feature_days(platform, TABLE, *days_of_run(context), run_id=context.run.run_id)
    metadata = frame_metadata(done.frame, version=done.version, meanings=CORE_V1.descriptions)
    return dg.MaterializeResult(
        metadata=metadata | {"bars_read": done.bars_read}, check_results=[finiteness_result(done.frame)]
    )
