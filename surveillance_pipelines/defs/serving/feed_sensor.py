"""The sensor that finds data incidents of the live feed while they happen."""

import dagster as dg

from surveillance_pipelines.defs.automation import SENSORS_START
from surveillance_pipelines.defs.bars.data_incidents import CHECK, data_sentence
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.queues import input_queues

_RED = "red"


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=SENSORS_START,
    description=(
        "During the sessions of SYMBOLS, records silent feeds and symbols that stop in surveillance.data_incidents, "
        "and evaluates the check data_is_complete when one begins and when all have ended."
    ),
)
def data_incident_sensor(
    context: dg.SensorEvaluationContext, platform: PlatformResource
) -> dg.SensorResult | dg.SkipReason:
    from surveillance_pipelines.services.feed_watch import watch_feeds
    from surveillance_pipelines.services.queue_watch import queue_state

    if not platform.settings.use_sqs_data_source:
        return dg.SkipReason("the queue is not read: USE_SQS_DATA_SOURCE is false")
    with platform.connect() as connection:
        views = [queue_state(client, connection, platform.clock) for client in input_queues(platform)]
    try:
        state = watch_feeds(platform, backlog=any(view.waiting for view in views))
    except ValueError as error:
        return dg.SkipReason(f"no trading sessions yet; reference_job creates them: {error}")
    if not state.open:
        return dg.SensorResult(skip_reason="no market of SYMBOLS is open", cursor=context.cursor)
    sentence = data_sentence(state.incidents)
    was_red = context.cursor == _RED
    events = (
        [_evaluation(sentence, passed=not state.incidents)] if state.new or (was_red and not state.incidents) else []
    )
    cursor = _RED if state.incidents else ""
    return dg.SensorResult(skip_reason=sentence, asset_events=events, cursor=cursor)


def _evaluation(sentence: str, *, passed: bool) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("data_incidents"),
        check_name=CHECK,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=sentence,
    )
