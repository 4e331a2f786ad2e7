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
    description="Build a training set, train the three models, freeze and judge the bundle, promote it if it passes.",
    tags={"surveillance/lane": "training"},
)
