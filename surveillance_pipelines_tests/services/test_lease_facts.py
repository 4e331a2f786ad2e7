"""The lines *lease* of `surveillance status`: held, released, expired, and work that nobody serves."""

from datetime import timedelta

import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK, now
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.services.facts import Fact
from surveillance_pipelines.services.lease_facts import lease_facts
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.lease import Role, acquire, delivery_lease, release
from surveillance_pipelines_tests.stores.test_partitions import insert_output


@pytest.fixture
def platform(settings) -> Platform:
    return Platform(settings)


def facts(platform: Platform) -> list[Fact]:
    with platform.connect() as connection:
        return lease_facts(platform, connection)


def only(platform: Platform) -> Fact:
    (found,) = facts(platform)
    return found


def take(platform: Platform, seconds: float = 60.0, *, ended: str | None = None, role: Role = "holder") -> None:
    with platform.connect(autocommit=True) as connection:
        lease = acquire(connection, platform.endpoints.queue_urls[0], holder=f"host:{role}", seconds=seconds, role=role)
        assert lease is not None
        if ended is not None:
            release(connection, lease, ended=ended)


def send(platform: Platform) -> None:
    platform.queue(platform.endpoints.queue_urls[0]).send([SendEntry("{}", "AAPL", "1")])


def test_no_lease_and_no_message_is_ok(platform):
    assert only(platform) == Fact("leases", "ok", "none: no drain run has started yet")


def test_messages_that_no_run_has_ever_served_are_a_warning(platform):
    send(platform)
    found = only(platform)
    assert found.verdict == "warn"
    assert "never held: 1 messages" in found.found
    assert "no run serves the queue: market_queue_sensor starts a run" in found.found


def test_held_lease_is_ok_whatever_waits(platform):
    send(platform)
    take(platform)
    assert only(platform).verdict == "ok"
    assert only(platform).found.startswith("held by host:holder")


def test_released_lease_is_ok_until_messages_wait(platform):
    take(platform, ended="idle")
    assert only(platform).verdict == "ok"
    assert "released by host:holder (idle)" in only(platform).found
    send(platform)
    assert only(platform).verdict == "warn"
    assert "no run serves the queue" in only(platform).found


def test_expired_lease_is_never_ok(platform):
    take(platform, seconds=0)
    found = only(platform)
    assert found.verdict == "warn"
    assert "expired: host:holder failed or was killed" in found.found
    take(platform, role="standby")
    expired, standby = facts(platform)
    assert (expired.verdict, standby.verdict) == ("warn", "ok")
    assert expired.found.endswith("the standby takes over")


def test_channel_whose_messages_nobody_delivers_is_a_warning(platform):
    streaming = Platform(platform.settings.model_copy(update={"output_channels": ("sqs", "redis")}))
    with connect(platform.endpoints.database_url, autocommit=True) as connection:
        insert_output(connection, "o1", now(SYSTEM_CLOCK) - timedelta(minutes=1), published=True)
    found = only(streaming)
    assert (found.name, found.verdict) == (f"lease {delivery_lease('redis')}", "warn")
    assert "1 messages wait and no run delivers them" in found.found
