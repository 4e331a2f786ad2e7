"""Where prices come from: what other systems own, named so that the lineage begins there."""

from typing import Final

import dagster as dg

from surveillance_pipelines.defs.automation import OWNERS, tags

_GROUP: Final = "sources"

market_queue = dg.AssetSpec(
    "market_queue",
    description=(
        "SQS FIFO queues that producers put market messages on (`SQS_QUEUE_URL`, one or several). A symbol always "
        "goes to the same queue; the drain run of that queue serves it. Contract: docs/producer-contract.md."
    ),
    group_name=_GROUP,
    kinds={"aws", "sqs"},
    owners=OWNERS,
    code_version="1",
    tags=tags("live", "sqs"),
)

yahoo_finance = dg.AssetSpec(
    "yahoo_finance",
    description="Yahoo Finance through yfinance: the fallback when the queue is silent or out of reach.",
    group_name=_GROUP,
    kinds={"api"},
    owners=OWNERS,
    code_version="1",
    tags=tags("warehouse", "web"),
)

bar_files = dg.AssetSpec(
    "bar_files",
    description="Parquet and CSV files of bars that a user hands over with `surveillance ingest`.",
    group_name=_GROUP,
    kinds={"parquet", "csv"},
    owners=OWNERS,
    code_version="1",
    tags=tags("warehouse", "files"),
)

bars_landed = dg.AssetSpec(
    "bars_landed",
    deps=[bar_files],
    description=(
        "Bars as they came from files, Yahoo and the simulator, every landing kept: `surveillance ingest` and "
        "`yahoo_bars` append to it, each batch once. Those of 1 minute make `bars_1m`; longer ones stay here."
    ),
    group_name=_GROUP,
    kinds={"deltalake"},
    owners=OWNERS,
    code_version="1",
    tags=tags("warehouse", "lake"),
)
