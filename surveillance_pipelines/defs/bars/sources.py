"""External assets: the sources of prices, where the lineage starts."""

from typing import Final

import dagster as dg

from surveillance_pipelines.defs.automation import OWNERS, tags

_GROUP: Final = "sources"

market_queue = dg.AssetSpec(
    "market_queue",
    description=(
        "SQS FIFO input queues with the messages of producers (`SQS_QUEUE_URL`, one or several). The messages of a "
        "symbol are always on the same queue, and the drain run of that queue serves them. See "
        "docs/producer-contract.md."
    ),
    group_name=_GROUP,
    kinds={"aws", "sqs"},
    owners=OWNERS,
    code_version="1",
    tags=tags("live", "sqs"),
)

yahoo_finance = dg.AssetSpec(
    "yahoo_finance",
    description="Yahoo Finance, accessed with yfinance: the fallback while the queue is silent or unreachable.",
    group_name=_GROUP,
    kinds={"api"},
    owners=OWNERS,
    code_version="1",
    tags=tags("warehouse", "web"),
)

bar_files = dg.AssetSpec(
    "bar_files",
    description="Parquet and CSV files of bars, loaded with `surveillance ingest`.",
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
        "Bars as received from files, Yahoo and the simulator, with all corrections. `surveillance ingest` and "
        "`yahoo_bars` append each batch once. `bars_1m` is computed from the 1-minute bars; longer bars stay here."
    ),
    group_name=_GROUP,
    kinds={"deltalake"},
    owners=OWNERS,
    code_version="1",
    tags=tags("warehouse", "lake"),
)
