"""The assets of features in the lake, one per feature view, partitioned by day."""

import dagster as dg

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.contracts.feature_tables import DEFAULT_VIEW, TRAINING_VIEW, feature_table_of
from surveillance_pipelines.defs.automation import DAILY, OWNERS, tags
from surveillance_pipelines.defs.bars.partitions import DAYS, days_of_run
from surveillance_pipelines.defs.features.checks import finiteness_result
from surveillance_pipelines.defs.metadata import frame_metadata
from surveillance_pipelines.defs.resources import PlatformResource


def feature_asset(view: str, description: str) -> dg.AssetsDefinition:
    """Return the asset of a view's features."""
    table = feature_table_of(view)

    @dg.asset(
        name=table,
        description=description,
        group_name="features",
        kinds={"polars", "numba", "deltalake"},
        owners=OWNERS,
        partitions_def=DAYS,
        deps=["bars_1m", "trading_sessions"],
        freshness_policy=DAILY,
        tags=tags("warehouse", "lake") | {"surveillance/feature-view": view},
        code_version=code_version("services.feature_table"),
        check_specs=[
            dg.AssetCheckSpec(
                "features_are_finite",
                asset=table,
                blocking=True,
                description="No feature is infinite, and features that are always defined are never missing.",
            )
        ],
    )
    def features(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
        from surveillance_pipelines.features.views import VIEWS
        from surveillance_pipelines.services.feature_table import compute_feature_days

        done = compute_feature_days(platform, view, *days_of_run(context), run_id=context.run.run_id)
        metadata = frame_metadata(done.frame, version=done.version, meanings=VIEWS[view].descriptions)
        return dg.MaterializeResult(
            metadata=metadata | {"bars_read": done.bars_read},
            check_results=[finiteness_result(done.frame, view)],
        )

    return features


features_core_v1 = feature_asset(
    DEFAULT_VIEW,
    "Feature view `core_v1` of every revision-0 bar, computed with the same formulas as the live lane.\n\n"
    "The state of a day is rebuilt from the 512 bars before it, so days can be computed in any order.",
)
features_core_v2 = feature_asset(
    TRAINING_VIEW,
    "Feature view `core_v2` of every revision-0 bar: the columns of `core_v1` with the median of the peers' returns.",
)
