"""Where alerts go."""

import dagster as dg

from surveillance_pipelines.defs.automation import OWNERS, tags

output_queue = dg.AssetSpec(
    "output_queue",
    deps=["market_queue", "champion", "anomalies", "signals"],
    description=(
        "SQS FIFO queue of anomalies and signals (`OUTPUT_QUEUE_URL`), in order per symbol, published by the drain run "
        "of each market queue. Message format: docs/output-messages.md."
    ),
    group_name="serving",
    kinds={"aws", "sqs"},
    owners=OWNERS,
    code_version="1",
    tags=tags("live", "sqs"),
)
