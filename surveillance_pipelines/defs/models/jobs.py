"""Train, judge and promote, as one run."""

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
        "champion",
    ),
    description=(
        "Build a training set, train the models, freeze and judge the bundle, promote it if it passes. Started "
        "by hand, by `surveillance train` or by model_drift_sensor; and by model_retraining_schedule, which is listed "
        "only while MODEL_RETRAINING_SCHEDULE is set (a cron line, UTC)."
    ),
    tags={"surveillance/lane": "training"},
)
