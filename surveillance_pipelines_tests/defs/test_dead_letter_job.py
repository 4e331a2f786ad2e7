"""Dead letters back onto their queue, from the Dagster UI."""

from typing import Any

import dagster as dg
import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK, now
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.transports.sqs import QueueClient
from surveillance_pipelines_tests.defs.runs import run_job
from surveillance_pipelines_tests.engine.market import ticks

GOOD = encode_tick(ticks(1, symbols=("AAPL",))[0])


def run(platform: PlatformResource, instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    run_config = {"ops": {"replay_dead_letters": {"config": config}}}
    return run_job("dead_letter_job", platform, instance, run_config=run_config, raise_on_error=False)


@pytest.mark.requirement("ING-07")
def test_dead_letter_job_sends_what_decodes_and_fails_for_the_rest(
    platform: PlatformResource, instance: dg.DagsterInstance
):
    url = platform.endpoints.queue_urls[0]
    with connect(platform.endpoints.database_url) as connection:
        for id_, body in (("broken-1", "not json"), ("broken-2", GOOD)):
            connection.execute(
                "INSERT INTO ops.dead_letters (message_id, queue_url, body, code, reason, received_at) "
                "VALUES (%s, %s, %s, 'not_json', '', %s)",
                (id_, url, body, now(SYSTEM_CLOCK)),
            )
    client = QueueClient(platform.endpoints.sqs_endpoint_url, "us-east-1", platform.endpoints.aws, url)
    assert not run(platform, instance, code="not_json", dry_run=True).success
    assert client.depth().total == 0
    result = run(platform, instance, code="not_json")
    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "broken-1: not_json" in str(failed.step_failure_data.error)
    assert client.depth().visible == 1
    assert not run(platform, instance).success, "neither ids nor a code"
    repaired = run(platform, instance, ids=["broken-1"], body=GOOD)
    assert repaired.success
    (observed,) = repaired.get_asset_observation_events()
    assert observed.asset_observation_data.asset_observation.metadata["sent"].value == 1
    assert client.depth().visible == 2
