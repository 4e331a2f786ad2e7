"""Keeps a delivery run on every channel beside SQS for which messages wait."""

from typing import TYPE_CHECKING

import dagster as dg

from surveillance_pipelines.defs.automation import SENSORS_START
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.channels import channel_states, channel_tag, side_channels
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
        "Starts a delivery run for each channel of `OUTPUT_CHANNELS` beside sqs for which messages wait and that has "
        "no run; and a second one that stands by while messages wait (`DRAIN_STANDBY`)."
    ),
)
def output_channel_sensor(
    context: dg.SensorEvaluationContext, platform: PlatformResource
) -> dg.SensorResult | dg.SkipReason:
    settings, now_us = platform.settings, platform.clock.now_us()
    if not side_channels(settings):
        return dg.SkipReason(
            "no channel has delivery runs: OUTPUT_CHANNELS lists only sqs, which drain runs publish to"
        )
    verdicts = [_judge(context, settings, view, now_us) for view in channel_states(platform)]
    text = "; ".join(sentence for sentence, _ in verdicts)
    context.log.info(text)
    requests = [request for _, request in verdicts if request is not None]
    return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason(text)


def _judge(
    context: dg.SensorEvaluationContext, settings: "Settings", view: "ChannelView", now_us: int
) -> tuple[str, dg.RunRequest | None]:
    """Return a sentence about a channel, and the delivery run that it needs, if any."""
    channel, count = view.channel, view.waiting.count
    starting = starting_runs(context.instance, channel_tag(channel), view.run_ids, now_us)
    failure = f"; its last failure: {view.waiting.error}" if view.waiting.error else ""
    if view.holder is None and not count:
        return f"no message waits for the channel {channel}", None
    if view.holder is None and not (starting or view.standby):
        state, wanted = (
            f"{count:,} messages wait for the channel {channel} and no run delivers{failure}",
            "a delivery run",
        )
    elif view.holder is not None and count and settings.drain_standby and not (view.standby or starting):
        state, wanted = f"{view.holder} delivers to the channel {channel} and nobody stands by{failure}", "a standby"
    else:
        return f"{_servers(view)} delivers to the channel {channel}, {count:,} messages wait{failure}", None
    pause = pause_left(context.instance, channel_tag(channel), now_us)
    if pause > 0:
        return f"{state}; its last delivery run failed, the next attempt is in {pause:.0f} s", None
    return f"{state}: {wanted} is requested", _request(channel)


def _servers(view: "ChannelView") -> str:
    if view.holder is not None:
        return view.holder
    return "a run that is starting" if view.standby is None else f"{view.standby}, which takes over,"


def _request(channel: str) -> dg.RunRequest:
    # No run_key: Dagster would never start a second run for the same key, not even after a failure.
    return dg.RunRequest(
        run_config=dg.RunConfig(ops={"deliver_outbox": {"config": {"channel": channel}}}),
        tags={QUEUE_TAG: channel_tag(channel)},
    )
