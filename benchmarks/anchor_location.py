"""The code location of the anchor of P1: a sensor requests one run per message, and the run's op scores the message."""

import json
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from benchmarks.plain_scoring import PlainScorer
    from surveillance_pipelines.settings import Settings
    from surveillance_pipelines.transports.sqs import QueueClient


class MessageConfig(dg.Config):
    """One message of the input queue, as JSON."""

    message: str


@dg.op
def score_message(context: dg.OpExecutionContext, config: MessageConfig) -> None:
    """Load the bundle once per process, score the message, publish, delete, and log one asset event."""
    from surveillance_pipelines.contracts.queue import Received

    message = Received(**json.loads(config.message))
    rows = warm_scorer().answer(message)
    metadata = {"new_rows": rows, "message_id": message.message_id}
    context.log_event(dg.AssetMaterialization("output_queue", metadata=metadata))


@dg.job(executor_def=dg.in_process_executor)
def message_job() -> None:
    score_message()


@dg.sensor(job=message_job, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def message_sensor(_context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    from benchmarks.plain_scoring import HIDDEN_SECONDS

    batch = _inputs().receive(10, wait_seconds=0, visibility_seconds=HIDDEN_SECONDS)
    if not batch:
        return dg.SkipReason("the queue is empty")
    requests = [dg.RunRequest(run_config=run_config(json.dumps(asdict(message)))) for message in batch]
    return dg.SensorResult(run_requests=requests)


def run_config(message: str) -> dg.RunConfig:
    """Return the run config for one message, with Dagster's console log turned off."""
    quiet = {"console": {"config": {"log_level": "CRITICAL"}}}
    return dg.RunConfig(ops={"score_message": MessageConfig(message=message)}, loggers=quiet)


@cache
def warm_scorer() -> "PlainScorer":
    """Return the scorer of this process, created on the first call."""
    from benchmarks.plain_scoring import PlainScorer

    return PlainScorer(_settings())


@cache
def _inputs() -> "QueueClient":
    from benchmarks.plain_scoring import plain_queues

    return plain_queues(_settings())[0]


def _settings() -> "Settings":
    from surveillance_pipelines.settings import Settings

    return Settings(_env_file=None)  # pyright: ignore[reportCallIssue]


defs = dg.Definitions(jobs=[message_job], sensors=[message_sensor])
