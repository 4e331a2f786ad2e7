"""Reports of a drain run as materializations with metrics, instead of an event per message."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, get_args

import dagster as dg

from surveillance_pipelines.contracts.outputs import IncidentStatus
from surveillance_pipelines.defs.metadata import counts_table
from surveillance_pipelines.defs.serving.queues import queue_name
from surveillance_pipelines.telemetry import get_logger

if TYPE_CHECKING:
    from surveillance_pipelines.runtime.meter import DrainReport, StopReason

ROW_COUNTS: Final[dict[str, tuple[str, ...]]] = {
    "anomalies": ("opened", "confirmed", "retracted"),
    "incidents": tuple(f"incidents_{status}" for status in get_args(IncidentStatus)),
    "signals": ("signals",),
    "output_queue": ("published",),
}
"""Asset → counts of a report that make up its new rows."""

CONSERVATION: Final = "every_message_is_accounted_for"
OUTCOMES: Final = ("scored", "late", "dead", "duplicate", "redelivered")
"""Outcomes of a received message; every message has exactly one."""
STOP_TEXTS: Final[Mapping["StopReason", str]] = {
    "window": "ended with its window; a new run continues",
    "idle": "ended: there is no work",
    "signal": "ended by a stop signal",
    "lease_held": "ended without serving: another run serves, and no standby is needed",
    "lease_lost": "ended: another run has taken over, and completes the unfinished work",
}
"""Stop reason → text."""

MESSAGES_PER_EVALUATION: Final = 20
"""Messages per evaluation, because reports of a quiet queue may cover one message each."""


@contextmanager
def ignore_report_failures() -> Iterator[None]:
    """Keep a run that serves alive while Dagster's storage is unavailable.

    The last report of a run covers the whole run, so a lost report only leaves a gap in the run's log.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 (Dagster and its drivers raise many types)
        get_logger("reports").warning("report not written to Dagster", error=repr(error))


def log_report(
    context: dg.OpExecutionContext,
    report: "DrainReport",
    schemas: Mapping[str, dg.TableSchema] = MappingProxyType({}),
    latest: Mapping[str, Callable[[], Mapping[str, Any]]] = MappingProxyType({}),
) -> None:
    """Log an observation of the queue, the conservation check, and a materialization of each asset with new rows.

    The last report of a run covers the whole run, so that the latest metrics of an asset in the UI are those of the
    run. It includes ``schemas``, by asset, and the metadata ``latest`` of the newest rows, by asset.
    """
    if report.stopped_by or any(report.interval.values()):  # no log lines of an idle run
        context.log.info(_sentence(report))
    counts = report.totals if report.stopped_by else report.interval
    if counts.get("messages", 0):
        context.log_event(dg.AssetObservation("market_queue", metadata=_metadata(report, counts["messages"])))
    _evaluate_conservation(context, report)
    for asset, names in ROW_COUNTS.items():
        gained = sum(counts.get(name, 0) for name in names)
        if gained:
            metadata = _metadata(report, gained)
            if asset == "anomalies":
                metadata["alerts_outside_training"] = counts.get("outside_training", 0)
            if report.stopped_by and asset in latest:
                metadata |= latest[asset]()
            if report.stopped_by and asset in schemas:
                metadata["dagster/column_schema"] = schemas[asset]
            context.log_event(dg.AssetMaterialization(asset, metadata=metadata))


def _evaluate_conservation(context: dg.OpExecutionContext, report: "DrainReport") -> None:
    """Log an evaluation of messages = scored + late + dead + duplicate + redelivered: every failure, some successes.

    Messages in progress have no outcome yet; a run that ended normally has none. Counts are since the start of the run.
    Dagster keeps the last evaluation of a run, so one lost message fails the check until the end of the run.
    """
    messages, gained = report.totals.get("messages", 0), report.interval.get("messages", 0)
    outcomes = {name: report.totals.get(name, 0) for name in OUTCOMES}
    in_progress = messages - sum(outcomes.values())
    unfinished = messages - report.totals.get("finished", 0) if report.stopped_by in (None, "lease_lost") else 0
    passed = 0 <= in_progress <= unfinished
    is_new = messages // MESSAGES_PER_EVALUATION > (messages - gained) // MESSAGES_PER_EVALUATION
    moved = gained + report.interval.get("finished", 0)
    due = report.stopped_by is not None or (gained > 0 and is_new) or (moved > 0 and not passed)
    if not messages or not due:
        return
    summary = f"{messages} messages = {' + '.join(f'{count} {name}' for name, count in outcomes.items())}"
    if passed and in_progress:
        summary += f" + {in_progress} in progress"
    if not passed:
        summary = f"expected {summary}, which does not hold: compare ops.inbox and ops.ledger by the run's MessageIds"
        context.log.error(summary)
    evaluation = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("market_queue"),
        check_name=CONSERVATION,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=summary,
        metadata={"messages": messages, "outcomes": outcomes, "queue": queue_name(report.queue_url)},
    )
    context.log_event(evaluation)  # pyright: ignore[reportArgumentType] (its body takes one, its annotation does not)


def _metadata(report: "DrainReport", gained: int) -> dict[str, Any]:
    steps = report.latency if report.stopped_by else report.interval_latency
    latencies = [
        {
            "step": step,
            "p50_ms": round(row.p50, 3),
            "p95_ms": round(row.p95, 3),
            "p99_ms": round(row.p99, 3),
            "max_ms": round(row.maximum, 3),
            "n": row.samples,
        }
        for step, row in sorted(steps.items())
    ]
    return {
        "new_rows": gained,
        "covers": f"the whole run, {report.seconds:.1f} s" if report.stopped_by else "since the previous report",
        "queue": queue_name(report.queue_url),
        "bundle_hash": report.bundle_hash,
        "warmup": report.warmup,
        "messages_per_second": round(report.messages_per_second, 1),
        "anomaly_rate": round(report.anomaly_rate, 4),
        "fallback_rate": round(report.fallback_rate, 4),
        "since_start": report.totals,
        **({} if report.stopped_by else {"since_last_report": report.interval}),
        **({"latency": counts_table(latencies)} if latencies else {}),
    }


def _sentence(report: "DrainReport") -> str:
    from surveillance_pipelines.runtime.meter import COMPUTE, QUEUE_TO_QUEUE

    counts = ", ".join(f"{name} {count}" for name, count in sorted(report.totals.items()) if count)
    summary = f"{queue_name(report.queue_url)} after {report.seconds:.0f} s: {counts or 'no messages'}"
    if report.stopped_by is None:
        return summary
    percentiles = [
        f"; {name} p50 {row.p50:.3f}, p95 {row.p95:.3f}, p99 {row.p99:.3f} ms"
        for step, name in ((COMPUTE, "compute"), (QUEUE_TO_QUEUE, "queue to queue"))
        if (row := report.latency.get(step)) is not None
    ]
    return f"{summary}{''.join(percentiles)}; {STOP_TEXTS[report.stopped_by]}"
