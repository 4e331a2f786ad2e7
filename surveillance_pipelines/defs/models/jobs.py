"""Train, judge and promote, as one run."""

import dagster as dg

training_job = dg.define_asset_job(
    "training_job",
    selection=dg.AssetSelection.assets(
        "training_set",
        "market_autoencoder",
        "market_classifier",
        "market_direction",
        "model_bundle",
        "model_evaluation",
        "champion",
    ),
    description=(
        "Build a training set, train the three models, freeze and judge the bundle, promote it if it passes. Started "
        "by hand, by `surveillance train` or by model_drift_sensor; and by model_retraining_schedule, which is listed "
        "only while MODEL_RETRAINING_SCHEDULE is set (a cron line, UTC)."
    ),
    tags={"surveillance/lane": "training"},
)
