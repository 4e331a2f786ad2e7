"""Jobs of the live lane: the drain run, its checks, and the replay of outputs."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from surveillance_pipelines.defs.metadata import stored_schema
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.publication import PublicationCheck
from surveillance_pipelines.defs.serving.queues import queue_name
from surveillance_pipelines.defs.serving.replays import replay_metadata, replay_sentence
from surveillance_pipelines.defs.serving.reports import log_report

if TYPE_CHECKING:
    from surveillance_pipelines.runtime.meter import DrainReport


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
    from surveillance_pipelines.runtime.drain import drain

    published = PublicationCheck(platform)

    def on_report(report: "DrainReport") -> None:
        log_report(context, report, schemas)
        published.evaluate(context, report)

    queue_url = config.queue_url or platform.endpoints.queue_urls[0]

    def on_status(sentence: str) -> None:
        context.log.info("%s: %s", queue_name(queue_url), sentence)

    settings, endpoints = platform.settings, platform.endpoints
    with platform.connect() as connection:
        schemas = {table: stored_schema(connection, table) for table in ("anomalies", "signals")}
    drain(
        endpoints,
        settings,
        queue_url,
        run_id=context.run_id,
        window_seconds=config.window_seconds or settings.drain_window_seconds,
        clock=platform.clock,
        on_report=on_report,
        on_status=on_status,
    )


@dg.job(
    executor_def=dg.in_process_executor,
    # The sensor starts the next run; a retry by Dagster beside it would only wait for the lease.
    tags={"surveillance/lane": "live", "dagster/max_retries": "0"},
    description="Serve one market queue: messages in, scored bars, anomalies and signals out, in milliseconds.",
)
def drain_job() -> None:
    drain_queue()


live_checks_job = dg.define_asset_job(
    "live_checks_job",
    selection=dg.AssetSelection.checks_for_assets(
        "market_queue", "output_queue", "output_stream", "bar_files", "yahoo_finance"
    ),
    tags={"surveillance/lane": "live"},
    description="Check from the ledger tables that the live lane loses nothing, is not late and not slow.",
)


class ReplayConfig(dg.Config):
    """Which outputs."""

    ids: list[str] = Field(
        default=[], description="Ids of anomalies, signals, predictions or messages: column `id`, or `id` of a message."
    )
    sample: int = Field(default=0, ge=0, description="So many outputs beside them, drawn at random.")
    seed: int = Field(default=0, description="Another seed draws other outputs.")


@dg.op(tags={"surveillance/lane": "warehouse"}, out=dg.Out(dg.Nothing))
def replay_outputs(context: dg.OpExecutionContext, config: ReplayConfig, platform: PlatformResource) -> None:
    """Make outputs again from stored bars, settings and models, compare them, and name the first field that differs.

    Fails if one is not the same or cannot be made again; the table in its metadata says which and why.
    """
    from surveillance_pipelines.replay.replayer import Replayer

    with platform.connect() as connection:
        replayer = Replayer(connection, platform.lake, platform.settings)
        drawn = replayer.sample(config.sample, config.seed) if config.sample else []
        results = list(replayer.replay(list(dict.fromkeys(config.ids + drawn))))
    metadata, said = replay_metadata(results), replay_sentence(results)
    if not results or not all(result.passed for result in results):
        raise dg.Failure(said, metadata=metadata, allow_retries=False)
    context.add_output_metadata(metadata)
    context.log.info(said)


@dg.job(
    executor_def=dg.in_process_executor,
    tags={"surveillance/lane": "warehouse", "dagster/max_retries": "0"},
    config=dg.RunConfig(ops={"replay_outputs": ReplayConfig(sample=20)}),
    description=(
        "Make alerts, signals or scores again from what is stored and compare them, byte for byte on an equal runtime. "
        "Put `ids` into the launchpad; without any, 20 outputs are drawn at random."
    ),
)
def replay_job() -> None:
    replay_outputs()
