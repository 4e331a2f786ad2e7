"""The job of batch scoring."""

import dagster as dg

scoring_job = dg.define_asset_job(
    "scoring_job",
    selection=dg.AssetSelection.assets(
        "scores", "anomalies", "incidents", "signals", "prediction_outcomes", "shadow_scores"
    ),
    description=(
        "Compute scores, anomalies, incidents and signals of a range of days, the outcomes of earlier predictions, and "
        "the scores of the shadow, if there is one."
    ),
    tags={"surveillance/lane": "warehouse"},
)
