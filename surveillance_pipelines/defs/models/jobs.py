"""Jobs of models: training and the check of the model registry."""

import dagster as dg

from surveillance_pipelines.defs.models.checks import model_asset
from surveillance_pipelines.models.kinds import KINDS

training_job = dg.define_asset_job(
    "training_job",
    selection=dg.AssetSelection.assets(
        "training_set",
        *(model_asset(kind) for kind in KINDS),
        "model_bundle",
        "model_evaluation",
        "model_comparison",
        "champion",
    ),
    description=(
        "Build a training set, train the models, freeze and evaluate the bundle, and promote it if it passes the gate "
        "and is better than the champion; if it is not better, it becomes a shadow. "
        "Started manually, by `surveillance train`, by model_drift_sensor, or by model_retraining_schedule, which "
        "exists only if MODEL_RETRAINING_SCHEDULE is set (a cron expression, UTC)."
    ),
    tags={"surveillance/lane": "training"},
)

model_checks_job = dg.define_asset_job(
    "model_checks_job",
    selection=dg.AssetSelection.checks(
        dg.AssetCheckKey(dg.AssetKey("champion"), "registry_aliases_follow_deployments")
    ),
    description="Check that the aliases in the model registry match the deployments.",
    tags={"surveillance/lane": "training"},
)

probation_job = dg.define_asset_job(
    "probation_job",
    selection=dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("champion"), "champion_keeps_its_promises")),
    description=(
        "Judge a new champion on its first served bars, and restore the previous one if it breaks its promises. "
        "Started by champion_probation_sensor."
    ),
    tags={"surveillance/lane": "training"},
)
