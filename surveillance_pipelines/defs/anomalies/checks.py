"""Checks of scores and incidents."""

from collections.abc import Mapping

import dagster as dg

from surveillance_pipelines.defs.resources import PlatformResource

_DAYS = 7


def scores_result(outside: Mapping[str, int]) -> dg.AssetCheckResult:
    """Return the result of ``scores_are_finite``; ``outside`` maps a column to its number of invalid values."""
    return dg.AssetCheckResult(
        asset_key="scores", check_name="scores_are_finite", passed=not outside, metadata={"outside": dict(outside)}
    )


@dg.asset_check(
    asset="incidents",
    description=f"Every confirmed alert of the newest {_DAYS} days with alerts belongs to an incident.",
)
def every_alert_belongs_to_an_incident(platform: PlatformResource) -> dg.AssetCheckResult:
    from surveillance_pipelines.stores.check_queries import alerts_without_incident

    with platform.connect() as connection:
        alerts, alone = alerts_without_incident(connection, days=_DAYS)
    return dg.AssetCheckResult(
        passed=alone == 0,
        description=(
            f"{alone:,} of {alerts:,} confirmed alerts belong to no incident: score their days again with scoring_job, "
            "which adds the missing incidents"
            if alone
            else f"all {alerts:,} confirmed alerts belong to an incident"
        ),
        metadata={"alerts": alerts, "without_incident": alone},
    )
