"""External assets: the output channels."""

import dagster as dg

from surveillance_pipelines.channels import SIDE_CHANNELS
from surveillance_pipelines.defs.automation import OWNERS, tags

output_queue = dg.AssetSpec(
    "output_queue",
    deps=["market_queue", "champion", "anomalies", "incidents", "signals"],
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

output_stream = dg.AssetSpec(
    SIDE_CHANNELS["redis"].asset,
    deps=["market_queue", "champion", "anomalies", "incidents", "signals"],
    description=(
        "Valkey or Redis stream of the same messages (`REDIS_STREAM`), in order per symbol, written by the delivery "
        "run of the channel redis if `OUTPUT_CHANNELS` contains it. Guarantees: docs/deliveries.md."
    ),
    group_name="serving",
    kinds={"redis"},
    owners=OWNERS,
    code_version="1",
    tags=tags("live", "redis"),
)
