"""The asset of canary runs."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from surveillance_pipelines.code_versions import code_version
from surveillance_pipelines.defs.automation import OWNERS, tags
from surveillance_pipelines.defs.canaries.charts import detection_chart
from surveillance_pipelines.defs.canaries.checks import CHECKS, absent_results, canary_results
from surveillance_pipelines.defs.metadata import counts_table, stored_schema
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    from surveillance_pipelines.services.canaries import CanaryRun


class CanaryConfig(dg.Config):
    """Configuration of a canary run."""

    seed: int = Field(
        default=-1, description="Seed of kinds, sizes and places; -1 derives it from the run, so that each run differs."
    )


@dg.asset(
    group_name="anomalies",
    kinds={"onnx", "postgresql"},
    owners=OWNERS,
    deps=["bars_1m", "champion", "instruments", "trading_sessions"],
    tags=tags("live", "postgresql"),
    code_version=code_version("services.canaries", "training.canary_plot"),
    check_specs=CHECKS,
)
def canaries(
    context: dg.AssetExecutionContext, config: CanaryConfig, platform: PlatformResource
) -> dg.MaterializeResult:
    """Known manipulations, planted into copies of a recent day and sent through the serving path in a shadow lane.

    The lane has the settings, instruments, calendars and models of a drain run. It publishes and stores nothing but
    one row per manipulation in `surveillance.canaries`.
    """
    from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
    from surveillance_pipelines.services.canaries import run_canaries

    try:
        run = run_canaries(platform, run_id=context.run.run_id, seed=None if config.seed < 0 else config.seed)
    except SurveillanceError as error:
        if error.code is not ErrorCode.NOT_READY:  # no bars, no sessions or no models yet
            raise
        return dg.MaterializeResult(metadata={"dagster/row_count": 0}, check_results=absent_results(str(error)))
    with platform.connect() as connection:
        schema = stored_schema(
            connection, "canaries", {"score": "Largest score of its bars, 0 to 1; null if none was scored"}
        )
    context.log.info("%s of %s manipulations detected", run.events["detected"].sum(), run.events.height)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": run.events.height,
            "dagster/column_schema": schema,
            **detection_chart(run),
            "detection": counts_table(_table(run)),
            "day": str(run.day),
            "symbols": ", ".join(sorted(run.events["symbol"].unique())),
            "messages": run.messages,
            "bundle_hash": run.bundle_hash,
            "control_bars": run.control.bars,
            "control_alerts": run.control.alerts,
            "control_episodes_per_390_bars": round(run.control.rate, 2),
            "seed": config.seed,
        },
        check_results=canary_results(run),
    )


def _table(run: "CanaryRun") -> list[dict[str, Any]]:
    """Return one row per kind of full size: counts, intervals and promises."""
    promised = {(verdict.name, verdict.measure): verdict for verdict in run.verdicts}
    rows = []
    for kind, counts in run.counts.kinds.items():
        low, high = counts.detected.interval()
        verdict, named = promised.get((kind, "detected")), promised.get((kind, "named"))
        rows.append(
            {
                "kind": kind,
                "detected": f"{counts.detected.found} of {counts.detected.of}",
                "promised": None if verdict is None else round(verdict.promised, 2),
                "named": counts.named.found,
                "promised_named": None if named is None else round(named.promised, 2),
                "kept": all(found.kept for found in (verdict, named) if found is not None),
                "delay_minutes": run.median_delay(kind),
                "interval": f"{low:.2f} to {high:.2f}",
            }
        )
    return rows
