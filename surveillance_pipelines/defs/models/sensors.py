"""Sensors of models: a training after drift of the features, and the probation of a new champion."""

import dagster as dg

from surveillance_pipelines.defs.automation import REASON_TAG, SENSORS_START
from surveillance_pipelines.defs.models.jobs import probation_job, training_job
from surveillance_pipelines.defs.resources import PlatformResource


@dg.sensor(
    job_name=training_job.name,
    minimum_interval_seconds=600,
    default_status=SENSORS_START,
    description=(
        "Compares new features of the last full days with the champion's training data. Requests a training, at most "
        "once per champion, if a fifth of the features has drifted."
    ),
)
def model_drift_sensor(
    context: dg.SensorEvaluationContext, platform: PlatformResource
) -> dg.SensorResult | dg.SkipReason:
    from surveillance_pipelines.services.drift import champion_drift, drift_inputs

    inputs = drift_inputs(platform)
    if inputs is None:
        return dg.SkipReason("no champion yet: run training_job")
    position = f"{inputs.bundle_hash}:{inputs.table_version}"
    if position == context.cursor:
        return dg.SkipReason(f"no new features since the last comparison with champion v{inputs.version}")
    report = champion_drift(platform)
    if report is None or not report.is_alert:
        reason = "the champion was retired during this check" if report is None else report.summary
        return dg.SensorResult(skip_reason=reason, cursor=position)
    request = dg.RunRequest(run_key=f"drift:{inputs.bundle_hash}", tags={REASON_TAG: report.summary})
    return dg.SensorResult(run_requests=[request], cursor=position)


@dg.sensor(
    job_name=probation_job.name,
    minimum_interval_seconds=300,
    default_status=SENSORS_START,
    description=(
        "Counts the bars that a new champion has served. Requests a run that judges it, and restores the previous "
        "champion if it breaks its promises, at most ten times per promotion."
    ),
)
def champion_probation_sensor(
    context: dg.SensorEvaluationContext, platform: PlatformResource
) -> dg.SensorResult | dg.SkipReason:
    from surveillance_pipelines.services.probation import champion_probation

    found = champion_probation(platform)
    if found is None:
        return dg.SkipReason("no champion on probation")
    if found.look == 0 or found.key == context.cursor:
        return dg.SkipReason(f"champion {found.champion.name}: {found.bars:,} served bars, no new look")
    reason = f"look {found.look} at champion {found.champion.name}"
    request = dg.RunRequest(run_key=f"probation:{found.key}", tags={REASON_TAG: reason})
    return dg.SensorResult(run_requests=[request], cursor=found.key)
