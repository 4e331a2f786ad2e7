"""Score a range of days with the champion, as one run."""

import dagster as dg

scoring_job = dg.define_asset_job(
    "scoring_job",
    selection=dg.AssetSelection.assets("scores", "anomalies", "signals", "prediction_outcomes"),
    description="Scores, anomalies, signals and what became of earlier predictions, for a range of days.",
    tags={"surveillance/lane": "warehouse"},
)
