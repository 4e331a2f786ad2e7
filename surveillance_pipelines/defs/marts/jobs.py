"""The job that rebuilds the marts, and the sensor that does so after upstream updates."""

import dagster as dg

from surveillance_pipelines.defs.automation import OWNERS, SENSORS_START
from surveillance_pipelines.defs.marts.assets import marts
from surveillance_pipelines.defs.marts.translator import GROUP

marts_job = dg.define_asset_job(
    "marts_job",
    selection=dg.AssetSelection.assets(marts),
    description="Build every dbt model and run its tests.",
    owners=OWNERS,
)

marts_sensor = dg.AutomationConditionSensorDefinition(
    "marts_sensor",
    target=dg.AssetSelection.groups(GROUP),
    # A build takes seconds of processor time and reads whole tables, so updates of the live lane are batched.
    minimum_interval_seconds=300,
    default_status=SENSORS_START,
    description="Builds the marts initially, and again after updates of anomalies, signals, metrics or ingestion runs.",
)
