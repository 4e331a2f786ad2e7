"""Score a range of days with the champion, as one run."""

import dagster as dg

from surveillance_pipelines.defs.automation import OWNERS
from surveillance_pipelines.defs.bars.partitions import DAYS

scoring_job = dg.define_asset_job(
    "scoring_job",
    selection=dg.AssetSelection.assets("scores", "anomalies", "signals", "prediction_outcomes"),
    partitions_def=DAYS,
    description="Scores, anomalies, signals and what became of earlier predictions, for a range of days.",
    tags={"surveillance/lane": "warehouse"},
    owners=OWNERS,
)
