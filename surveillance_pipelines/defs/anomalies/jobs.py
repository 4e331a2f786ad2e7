"""The job of batch scoring."""

import dagster as dg

scoring_job = dg.define_asset_job(
    "scoring_job",
    selection=dg.AssetSelection.assets("scores", "anomalies", "incidents", "signals", "prediction_outcomes"),
    description=(
        "Compute scores, anomalies, incidents and signals of a range of days, and the outcomes of earlier predictions."
    ),
    tags={"surveillance/lane": "warehouse"},
)
