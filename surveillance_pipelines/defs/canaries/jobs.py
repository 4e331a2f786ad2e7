"""The job of canary runs."""

import dagster as dg

canaries_job = dg.define_asset_job(
    "canaries_job",
    selection=dg.AssetSelection.assets("canaries"),
    description="Plant known manipulations, send them through the serving path, and check that they are detected.",
    tags={"surveillance/lane": "live"},
)
