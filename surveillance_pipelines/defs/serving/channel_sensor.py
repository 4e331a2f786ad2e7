"""The sensor that starts delivery runs."""

from typing import TYPE_CHECKING

import dagster as dg

from surveillance_pipelines.defs.automation import SENSORS_START
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.channels import channel_states, channel_tag
from surveillance_pipelines.defs.serving.deliveries import delivery_job
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG
from surveillance_pipelines.defs.serving.runs import pause_left, starting_runs

if TYPE_CHECKING:
    from surveillance_pipelines.services.channel_watch import ChannelView
    from surveillance_pipelines.settings import Settings


@dg.sensor(
    job_name=delivery_job.name,
    minimum_interval_seconds=5,
    default_status=SENSORS_START,
    description=(
        "Starts a delivery run for each channel of `OUTPUT_CHANNELS` other than sqs that has waiting messages and no "
        "run, and a standby run while messages wait (`DRAIN_STANDBY`)."
    ),
)
def output_channel_sensor(
    context: dg.SensorEvaluationContext, platform: PlatformResource
) -> dg.SensorResult | dg.SkipReason:
    settings, now_us = platform.settings, platform.clock.now_us()
    if not settings.side_channels:
        return dg.SkipReason(
            "no channel needs delivery runs: OUTPUT_CHANNELS contains only sqs, to which drain runs publish"
        )
    verdicts = [_judge(context, settings, view, now_us) for view in channel_states(platform)]
    text = "; ".join(sentence for sentence, _ in verdicts)
    context.log.info(text)
    requests = [request for _, request in verdicts if request is not None]
    return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason(text)


def _judge(
    context: dg.SensorEvaluationContext, settings: "Settings", view: "ChannelView", now_us: int
) -> tuple[str, dg.RunRequest | None]:
    """Return a description of a channel's state, and a run request if it needs a delivery run."""
    channel, count = view.channel, view.waiting.count
    starting = starting_runs(context.instance, channel_tag(channel), view.run_ids, now_us)
    failure = f"; last error: {view.waiting.error}" if view.waiting.error else ""
    if view.holder is None and not count:
        return f"channel {channel}: no waiting messages", None
    if view.holder is None and not (starting or view.standby):
        state, wanted = (
            f"channel {channel}: {count:,} waiting messages and no delivery run{failure}",
            "a delivery run",
        )
    elif view.holder is not None and count and settings.drain_standby and not (view.standby or starting):
        state, wanted = f"channel {channel}: served by {view.holder} without a standby{failure}", "a standby run"
    else:
        return f"channel {channel}: served by {_servers(view)}, {count:,} waiting messages{failure}", None
    pause = pause_left(context.instance, channel_tag(channel), now_us)
    if pause > 0:
        return f"{state}; its last delivery run failed, the next attempt is in {pause:.0f} s", None
    return f"{state}: {wanted} is requested", _request(channel)


def _servers(view: "ChannelView") -> str:
    if view.holder is not None:
        return view.holder
    return "a starting run" if view.standby is None else f"the standby {view.standby}, which is taking over"


def _request(channel: str) -> dg.RunRequest:
    # Without a run_key, because Dagster starts at most one run per key, even if that run fails.
    return dg.RunRequest(
        run_config=dg.RunConfig(ops={"deliver_outbox": {"config": {"channel": channel}}}),
        tags={QUEUE_TAG: channel_tag(channel)},
    )
