"""One Dagster run of a warehouse asset over a range of days in a separate process, with its cost.

``python -m benchmarks.backfill_run scoring 2022-01-03 2022-12-30``; the environment says where
the stores are. The answer is one line of JSON.
"""

import json
import sys
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg

from surveillance_pipelines.defs.anomalies.assets import batch_scoring
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.features.assets import features_core_v1
from surveillance_pipelines.defs.resources import PlatformResource

JOBS: Final[dict[str, Sequence[dg.AssetsDefinition]]] = {
    "features": [features_core_v1],
    "scoring": [batch_scoring],
}


def materialize(job: str, first: date, last: date) -> dict[str, Any]:
    """Run an asset over a range of days, both included; return seconds and the reported rows per asset."""
    begin = time.perf_counter()
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            JOBS[job],
            instance=instance,
            resources={"platform": PlatformResource(env_file="")},
            tags=range_tags(first, last),
        )
    seconds = time.perf_counter() - begin
    made = {event.asset_key.to_user_string(): event.materialization.metadata
            for event in done.get_asset_materialization_events() if event.asset_key is not None}  # fmt: skip
    counts = ("dagster/row_count", "new_rows", "new_predictions")
    rows = {asset: {name: metadata[name].value for name in counts if name in metadata}
            for asset, metadata in made.items()}  # fmt: skip
    return {"seconds": seconds, "rows": rows, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def main(job: str, first: str, last: str) -> None:
    """Warm up imports and models on a day without bars, run, and print the result."""
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    empty = begin - timedelta(days=30)
    materialize(job, empty, empty)
    sys.stdout.write(json.dumps(materialize(job, begin, end)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
