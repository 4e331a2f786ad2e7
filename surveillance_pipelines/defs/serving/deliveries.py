"""The delivery run: a process that delivers the outbox to one channel until its window ends."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from surveillance_pipelines.channels import SIDE_CHANNELS
from surveillance_pipelines.defs.metadata import counts_table
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.channels import channel_delivery
from surveillance_pipelines.defs.serving.reports import STOP_TEXTS, ignore_report_failures

if TYPE_CHECKING:
    from surveillance_pipelines.runtime.delivery import DeliveryReport


class DeliveryConfig(dg.Config):
    """Configuration of a delivery run."""

    channel: str = Field(default=next(iter(SIDE_CHANNELS)), description="A channel of OUTPUT_CHANNELS other than sqs.")
    window_seconds: float = Field(
        default=0.0, ge=0, description="Seconds after which a new run takes over; 0 for DRAIN_WINDOW_SECONDS."
    )


@dg.op(tags={"surveillance/lane": "live"})
def deliver_outbox(context: dg.OpExecutionContext, config: DeliveryConfig, platform: PlatformResource) -> None:
    """Acquire the lease of a channel and deliver the undelivered messages of the outbox until the window ends.

    Logs materializations of the channel's asset with counts and latencies every few seconds, and one that covers the
    whole run at the end.
    """
    from surveillance_pipelines.runtime.delivery import deliver

    channel, settings = config.channel, platform.settings

    def on_report(report: "DeliveryReport") -> None:
        with ignore_report_failures():
            log_delivery(context, report)
            if report.stopped_by is not None:
                _evaluate(context, platform, channel)

    def on_status(sentence: str) -> None:
        with ignore_report_failures():
            context.log.info("%s: %s", channel, sentence)

    deliver(
        platform.endpoints,
        settings,
        channel,
        run_id=context.run_id,
        window_seconds=config.window_seconds or settings.drain_window_seconds,
        clock=platform.clock,
        on_report=on_report,
        on_status=on_status,
    )


@dg.job(
    executor_def=dg.in_process_executor,
    # The sensor starts the next run; a retry by Dagster would only wait for the lease.
    tags={"surveillance/lane": "live", "dagster/max_retries": "0"},
    description="Deliver outputs to one channel other than SQS, at least once and in order per symbol.",
)
def delivery_job() -> None:
    deliver_outbox()


def log_delivery(context: dg.OpExecutionContext, report: "DeliveryReport") -> None:
    """Log a summary, and a materialization of the channel's asset if messages were delivered."""
    if report.stopped_by is not None or any(report.interval.values()):
        context.log.info(_sentence(report))
    counts = report.totals if report.stopped_by else report.interval
    if counts.get("delivered", 0):
        metadata = _metadata(report, counts["delivered"])
        context.log_event(dg.AssetMaterialization(SIDE_CHANNELS[report.channel].asset, metadata=metadata))


def _evaluate(context: dg.OpExecutionContext, platform: PlatformResource, channel: str) -> None:
    """Evaluate the check again, because Dagster ignores evaluations older than the latest materialization."""
    found, row = channel_delivery(platform, channel), SIDE_CHANNELS[channel]
    evaluation = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(row.asset),
        check_name=row.check,
        passed=found.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=found.summary,
        metadata=found.metadata,
    )
    context.log_event(evaluation)  # pyright: ignore[reportArgumentType] (its body takes one, its annotation does not)


def _metadata(report: "DeliveryReport", gained: int) -> dict[str, Any]:
    steps = report.latency if report.stopped_by else report.interval_latency
    latencies = [
        {"step": step, "p50_ms": round(row.p50, 3), "p99_ms": round(row.p99, 3), "n": row.samples}
        for step, row in sorted(steps.items())
    ]
    return {
        "new_messages": gained,
        "covers": f"the whole run, {report.seconds:.1f} s" if report.stopped_by else "since the previous report",
        "channel": report.channel,
        "pending": report.pending,
        "since_start": report.totals,
        **({"latency": counts_table(latencies)} if latencies else {}),
    }


def _sentence(report: "DeliveryReport") -> str:
    counts = ", ".join(f"{name} {count}" for name, count in sorted(report.totals.items()) if count)
    summary = f"{report.channel} after {report.seconds:.0f} s: {counts or 'no messages'}"
    return summary if report.stopped_by is None else f"{summary}; {STOP_TEXTS[report.stopped_by]}"
