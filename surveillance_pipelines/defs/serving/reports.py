"""A drain run's reports as materializations: lineage and figures without an event per message."""

from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from surveillance_pipelines.defs.metadata import counts_table
from surveillance_pipelines.defs.serving.queues import queue_name

if TYPE_CHECKING:
    from surveillance_pipelines.serving.meter import DrainReport

COUNTED: Final[dict[str, tuple[str, ...]]] = {
    "anomalies": ("opened", "confirmed", "retracted"),
    "signals": ("signals",),
    "output_queue": ("published",),
}
"""Asset → the counts of a report that say whether it has news, and how much."""


def log_report(context: dg.OpExecutionContext, report: "DrainReport") -> None:
    """Log an observation of the queue, and a materialization of each asset that gained rows since the last report."""
    if report.stopped_by or any(report.interval.values()):  # an idle run need not say so every few seconds
        context.log.info(_sentence(report))
    if report.interval.get("messages", 0):
        context.log_event(dg.AssetObservation("market_queue", metadata=_metadata(report, report.interval["messages"])))
    for asset, names in COUNTED.items():
        gained = sum(report.interval.get(name, 0) for name in names)
        if gained:
            context.log_event(dg.AssetMaterialization(asset, metadata=_metadata(report, gained)))


def _metadata(report: "DrainReport", gained: int) -> dict[str, Any]:
    latencies = [
        {"step": step, "p50_ms": row.p50, "p95_ms": row.p95, "p99_ms": row.p99, "max_ms": row.maximum, "n": row.samples}
        for step, row in sorted(report.interval_latency.items())
    ]
    return {
        "new_rows": gained,
        "queue": queue_name(report.queue_url),
        "bundle_hash": report.bundle_hash,
        "warmup": report.warmup,
        "messages_per_second": round(report.messages_per_second, 1),
        "anomaly_rate": round(report.anomaly_rate, 5),
        "fallback_rate": round(report.fallback_rate, 5),
        "since_last_report": report.interval,
        "since_start": report.totals,
        **({"latency": counts_table(latencies)} if latencies else {}),
    }


def _sentence(report: "DrainReport") -> str:
    counts = ", ".join(f"{name} {count}" for name, count in sorted(report.totals.items()) if count)
    ended = f"; stopped by {report.stopped_by}" if report.stopped_by else ""
    return f"{queue_name(report.queue_url)} after {report.seconds:.0f} s: {counts or 'no messages'}{ended}"
