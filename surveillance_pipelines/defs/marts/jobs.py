"""Rebuild the marts by hand, or whenever something upstream is new."""

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
    # A build costs seconds of processor time and reads whole tables: news of the live lane is gathered first.
    minimum_interval_seconds=300,
    default_status=SENSORS_START,
    description="Builds the marts at first, and again when anomalies, signals, metrics or ingestion runs are new.",
)
