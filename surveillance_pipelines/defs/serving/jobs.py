"""The drain run: one warm process that serves one queue until its window ends."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from surveillance_pipelines.defs.metadata import stored_schema
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.reports import log_report

if TYPE_CHECKING:
    from surveillance_pipelines.serving.meter import DrainReport


class DrainConfig(dg.Config):
    """Which queue, and for how long."""

    queue_url: str = Field(default="", description="URL of the input queue; empty for the first of SQS_QUEUE_URL.")
    window_seconds: float = Field(
        default=0.0, ge=0, description="Seconds to serve before a fresh run takes over; 0 for DRAIN_WINDOW_SECONDS."
    )


@dg.op(tags={"surveillance/lane": "live"})
def drain_queue(context: dg.OpExecutionContext, config: DrainConfig, platform: PlatformResource) -> None:
    """Take the queue's lease, load the champion once, then score messages and publish alerts until the window ends.

    Logs materializations of `anomalies`, `signals` and `output_queue` every few seconds, with counts and latencies, and
    at the end one of each that covers the whole run.
    """
    from surveillance_pipelines.serving.drain import drain

    def on_report(report: "DrainReport") -> None:
        log_report(context, report, schemas)

    settings, endpoints = platform.settings, platform.endpoints
    with platform.connect() as connection:
        schemas = {table: stored_schema(connection, table) for table in ("anomalies", "signals")}
    drain(
        endpoints,
        settings,
        config.queue_url or endpoints.queue_urls[0],
        run_id=context.run_id,
        window_seconds=config.window_seconds or settings.drain_window_seconds,
        clock=platform.clock,
        on_report=on_report,
    )


@dg.job(
    executor_def=dg.in_process_executor,
    # The sensor starts the next run by itself; a retry of Dagster's beside it would only wait for the lease.
    tags={"surveillance/lane": "live", "dagster/max_retries": "0"},
    description="Serve one market queue: messages in, scored bars, anomalies and signals out, in milliseconds.",
)
def drain_job() -> None:
    drain_queue()
