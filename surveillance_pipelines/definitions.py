"""The main code location: all assets, checks, jobs, sensors and schedules except the marts.

It loads without credentials, database and network, and without torch, mlflow, pandas and dbt, because a drain run
imports it before it can score. Function bodies import their dependencies when they run.
"""

import dagster as dg

from surveillance_pipelines.defs import operations
from surveillance_pipelines.defs.anomalies import assets as anomaly_assets
from surveillance_pipelines.defs.anomalies import checks as anomaly_checks
from surveillance_pipelines.defs.anomalies.jobs import scoring_job
from surveillance_pipelines.defs.anomalies.schedules import daily_scoring_schedule
from surveillance_pipelines.defs.bars import assets as bar_assets
from surveillance_pipelines.defs.bars import checks as bar_checks
from surveillance_pipelines.defs.bars import data_incidents, reference, sources, yahoo
from surveillance_pipelines.defs.bars.jobs import market_data_job, reference_job, yahoo_fallback_job
from surveillance_pipelines.defs.bars.schedules import daily_bars_schedule
from surveillance_pipelines.defs.bars.sensors import reference_data_sensor
from surveillance_pipelines.defs.canaries import assets as canary_assets
from surveillance_pipelines.defs.canaries.jobs import canaries_job
from surveillance_pipelines.defs.canaries.schedules import canaries_schedule
from surveillance_pipelines.defs.features import assets as feature_assets
from surveillance_pipelines.defs.models import assets as model_assets
from surveillance_pipelines.defs.models import checks as model_checks
from surveillance_pipelines.defs.models import promotion, shadow
from surveillance_pipelines.defs.models.jobs import model_checks_job, probation_job, training_job
from surveillance_pipelines.defs.models.schedules import daily_model_checks_schedule, retraining_schedules
from surveillance_pipelines.defs.models.sensors import champion_probation_sensor, model_drift_sensor
from surveillance_pipelines.defs.notifications import notification_sensor
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.secret_masking import console_log
from surveillance_pipelines.defs.serving import assets as serving_assets
from surveillance_pipelines.defs.serving import checks as serving_checks
from surveillance_pipelines.defs.serving import clock_checks
from surveillance_pipelines.defs.serving.channel_sensor import output_channel_sensor
from surveillance_pipelines.defs.serving.dead_letters import dead_letter_job, redrive_job
from surveillance_pipelines.defs.serving.deliveries import delivery_job
from surveillance_pipelines.defs.serving.feed_sensor import data_incident_sensor
from surveillance_pipelines.defs.serving.jobs import drain_job, live_checks_job, replay_job
from surveillance_pipelines.defs.serving.retention import retention_job
from surveillance_pipelines.defs.serving.schedules import daily_retention_schedule, live_checks_schedule
from surveillance_pipelines.defs.serving.sensors import queue_sensor, yahoo_fallback_sensor
from surveillance_pipelines.defs.signals import assets as signal_assets
from surveillance_pipelines.services.configuration import read_settings

_settings = read_settings()

defs = dg.Definitions(
    assets=dg.load_assets_from_modules(
        [
            sources,
            reference,
            bar_assets,
            yahoo,
            data_incidents,
            feature_assets,
            model_assets,
            promotion,
            shadow,
            anomaly_assets,
            canary_assets,
            signal_assets,
            serving_assets,
        ],
        include_specs=True,
        # A range of days is one run; the assets process only days with data.
        backfill_policy=dg.BackfillPolicy.single_run(),
    ),
    asset_checks=dg.load_asset_checks_from_modules(
        [anomaly_checks, bar_checks, model_checks, serving_checks, clock_checks]
    ),
    jobs=[
        reference_job,
        market_data_job,
        yahoo_fallback_job,
        scoring_job,
        canaries_job,
        training_job,
        model_checks_job,
        probation_job,
        drain_job,
        delivery_job,
        live_checks_job,
        dead_letter_job,
        redrive_job,
        replay_job,
        retention_job,
    ],
    sensors=[
        reference_data_sensor,
        queue_sensor(_settings.sqs_polling_interval),
        output_channel_sensor,
        yahoo_fallback_sensor,
        data_incident_sensor,
        model_drift_sensor,
        champion_probation_sensor,
        operations.run_failure_sensor,
        notification_sensor,
    ],
    schedules=[
        daily_bars_schedule,
        daily_scoring_schedule,
        canaries_schedule,
        daily_retention_schedule,
        daily_model_checks_schedule,
        live_checks_schedule,
        *retraining_schedules(_settings.model_retraining_schedule),
    ],
    resources={"platform": PlatformResource()},
    loggers={"console": console_log},
    # One process per run: the assets are small, and a process per step would repeat all imports.
    executor=dg.in_process_executor,
)
