"""Jobs of the live lane: drain run, checks and replay of outputs."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from surveillance_pipelines.channels import SIDE_CHANNELS
from surveillance_pipelines.defs.anomalies.incidents import INCIDENT_MEANINGS, incident_metadata
from surveillance_pipelines.defs.anomalies.latest import latest_alerts
from surveillance_pipelines.defs.metadata import stored_schema
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.publication import PublicationCheck
from surveillance_pipelines.defs.serving.queues import queue_name
from surveillance_pipelines.defs.serving.replays import replay_metadata, replay_sentence
from surveillance_pipelines.defs.serving.reports import ignore_report_failures, log_report

if TYPE_CHECKING:
    from surveillance_pipelines.runtime.meter import DrainReport


class DrainConfig(dg.Config):
    """Configuration of a drain run."""

    queue_url: str = Field(default="", description="URL of the input queue; empty for the first of SQS_QUEUE_URL.")
    window_seconds: float = Field(
        default=0.0, ge=0, description="Seconds after which a new run takes over; 0 for DRAIN_WINDOW_SECONDS."
    )


@dg.op(tags={"surveillance/lane": "live"})
def drain_queue(context: dg.OpExecutionContext, config: DrainConfig, platform: PlatformResource) -> None:
    """Acquire the lease of a queue, load the champion, then score messages and publish alerts until the window ends.

    Logs materializations of `anomalies`, `incidents`, `signals` and `output_queue` with counts and latencies every few
    seconds, and one of each that covers the whole run at the end.
    """
    from surveillance_pipelines.runtime.drain import drain
    from surveillance_pipelines.runtime.service_outages import await_services

    schemas = await_services(lambda: _schemas(platform), platform.clock)
    published = PublicationCheck(platform)
    latest = {"anomalies": lambda: _latest_alerts(platform), "incidents": lambda: _latest_incidents(platform)}

    def on_report(report: "DrainReport") -> None:
        with ignore_report_failures():
            log_report(context, report, schemas, latest=latest)
            published.evaluate(context, report)

    queue_url = config.queue_url or platform.endpoints.queue_urls[0]

    def on_status(sentence: str) -> None:
        with ignore_report_failures():
            context.log.info("%s: %s", queue_name(queue_url), sentence)

    settings, endpoints = platform.settings, platform.endpoints
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


def _schemas(platform: PlatformResource) -> dict[str, dg.TableSchema]:
    with platform.connect() as connection:
        schemas = {table: stored_schema(connection, table) for table in ("anomalies", "signals")}
        return schemas | {"incidents": stored_schema(connection, "incidents", INCIDENT_MEANINGS)}


def _latest_alerts(platform: PlatformResource) -> dict[str, Any]:
    with ignore_report_failures(), platform.connect() as connection:
        return latest_alerts(connection, platform.settings.tenant)
    return {}  # the report does without them


def _latest_incidents(platform: PlatformResource) -> dict[str, Any]:
    with ignore_report_failures():
        return incident_metadata(platform)
    return {}


@dg.job(
    executor_def=dg.in_process_executor,
    # The sensor starts the next run; a retry by Dagster would only wait for the lease.
    tags={"surveillance/lane": "live", "dagster/max_retries": "0"},
    description=(
        "Serve one input queue: score its messages and publish incidents, alerts and signals within milliseconds."
    ),
)
def drain_job() -> None:
    drain_queue()


live_checks_job = dg.define_asset_job(
    "live_checks_job",
    selection=dg.AssetSelection.checks_for_assets(
        "market_queue",
        "output_queue",
        *(channel.asset for channel in SIDE_CHANNELS.values()),
        "bar_files",
        "yahoo_finance",
    )
    | dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("champion"), "champion_can_serve")),
    tags={"surveillance/lane": "live"},
    description=(
        "Check that the live lane loses no message, publishes its alerts, scores within the time limit, and that the "
        "champion can be loaded."
    ),
)


class ReplayConfig(dg.Config):
    """Configuration of a replay of outputs."""

    ids: list[str] = Field(
        default=[], description="Ids of anomalies, signals, predictions or messages: column `id`, or `id` of a message."
    )
    sample: int = Field(default=0, ge=0, description="Number of additional, randomly selected outputs.")
    seed: int = Field(default=0, description="Random seed of the sample.")


@dg.op(tags={"surveillance/lane": "warehouse"}, out=dg.Out(dg.Nothing))
def replay_outputs(context: dg.OpExecutionContext, config: ReplayConfig, platform: PlatformResource) -> None:
    """Recompute outputs from stored bars, settings and models, and compare them with the stored values.

    Fails if an output differs or cannot be recomputed; the metadata contains a table with the reasons.
    """
    from surveillance_pipelines.services import replays

    results = replays.replay_outputs(platform, config.ids, sample=config.sample, seed=config.seed)
    metadata, summary = replay_metadata(results), replay_sentence(results)
    if not results or not all(result.passed for result in results):
        raise dg.Failure(summary, metadata=metadata, allow_retries=False)
    context.add_output_metadata(metadata)
    context.log.info(summary)


@dg.job(
    executor_def=dg.in_process_executor,
    tags={"surveillance/lane": "warehouse", "dagster/max_retries": "0"},
    config=dg.RunConfig(ops={"replay_outputs": ReplayConfig(sample=20)}),
    description=(
        "Recompute alerts, signals or scores from stored data and compare them with the stored values, byte for byte "
        "if the runtime is equal. Enter `ids` in the launchpad; by default, 20 outputs are selected randomly."
    ),
)
def replay_job() -> None:
    replay_outputs()
