"""Checks of the clocks of producers and of this host."""

from datetime import datetime, timedelta

import dagster as dg

from surveillance_pipelines.clock import SYSTEM_CLOCK, now
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.transports.sqs import QueueClient
from surveillance_pipelines_tests.defs.runs import run_job


def evaluation(platform: PlatformResource, instance: dg.DagsterInstance, name: str) -> dg.AssetCheckEvaluation:
    result = run_job("live_checks_job", platform, instance)
    (found,) = [one for one in result.get_asset_check_evaluations() if one.check_name == name]
    return found


def record(platform: PlatformResource, symbol: str, ahead: float, sent: datetime) -> None:
    with platform.connect() as connection:
        connection.execute(
            "INSERT INTO ops.inbox (message_id, queue_url, group_id, sequence_number, body, sent_at, received_at, "
            "receive_count, sender_id, event_time, symbol, committed_at) "
            "VALUES (%s, 'https://sqs/0/market.fifo', %s, '1', '', %s, %s, 1, 'AIDA', %s, %s, %s)",
            (symbol, symbol, sent, sent, sent + timedelta(seconds=ahead), symbol, sent),
        )


def test_producer_whose_timestamps_run_ahead_is_named(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance
):
    sent = now(SYSTEM_CLOCK)
    record(platform, "AAPL", -0.2, sent)
    assert evaluation(platform, instance, "producer_clocks_are_right").passed
    record(platform, "SPY", 240.0, sent)
    found = evaluation(platform, instance, "producer_clocks_are_right")
    assert not found.passed
    assert "group SPY of sender AIDA by 240.0 s (market.fifo)" in str(found.description)
    assert "AAPL" not in str(found.description)


def test_host_whose_clock_differs_from_the_queues_is_named(
    platform: PlatformResource, always_open: None, instance: dg.DagsterInstance, monkeypatch
):
    assert evaluation(platform, instance, "host_clock_is_right").passed
    monkeypatch.setattr(QueueClient, "clock_difference", lambda _: (-361_000_000, -359_000_000))
    found = evaluation(platform, instance, "host_clock_is_right")
    assert not found.passed
    assert "is at least 359 s behind" in str(found.description)
