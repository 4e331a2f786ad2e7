"""The stream as a channel, over a real Valkey server."""

from collections.abc import Iterator

import pytest

from benchmarks.valkey import ValkeyProcess
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.transports.publisher import ChannelDownError, PublishError
from surveillance_pipelines.transports.redis_streams import DEDUP_SECONDS, RedisStream

STREAM = "out"


@pytest.fixture
def stream(valkey: ValkeyProcess) -> Iterator[RedisStream]:
    opened = RedisStream(valkey.url, STREAM, 1000, timeout_seconds=0.5)
    yield opened
    opened.close()


def entries(*names: str) -> list[SendEntry]:
    return [SendEntry(f'{{"id":"{name}"}}', name[0], name) for name in names]


def ids(valkey: ValkeyProcess) -> list[str]:
    return [entry["id"] for entry in valkey.entries(STREAM)]


def test_messages_arrive_in_order_with_id_group_and_body(valkey, stream):
    added = stream.send(entries("a1", "b1", "a2"))
    assert valkey.entries(STREAM) == [
        {"id": name, "group": name[0], "body": f'{{"id":"{name}"}}'} for name in ("a1", "b1", "a2")
    ]
    with valkey.client() as client:
        assert [entry_id for entry_id, _ in client.xrange(STREAM)] == added


def test_message_sent_again_is_in_the_stream_once_under_its_first_entry_id(valkey, stream):
    first = stream.send(entries("a1", "a2"))
    assert stream.send(entries("a2", "a3"))[0] == first[1]
    assert ids(valkey) == ["a1", "a2", "a3"]


def test_id_is_forgotten_after_the_promised_time(valkey, stream):
    stream.send(entries("a1"))
    with valkey.client() as client:
        (key,) = client.keys("*:id:a1")
        assert DEDUP_SECONDS - 60 < client.ttl(key) <= DEDUP_SECONDS
        client.delete(key)
    stream.send(entries("a1"))
    assert ids(valkey) == ["a1", "a1"]


def test_killed_server_keeps_what_it_acknowledged_and_the_ids(valkey, stream):
    stream.send(entries("a1", "a2"))
    valkey.kill()
    with pytest.raises(ChannelDownError, match="did not accept"):
        stream.send(entries("a3"))
    valkey.start()
    stream.send(entries("a2", "a3"))
    assert ids(valkey) == ["a1", "a2", "a3"]


def test_frozen_server_counts_as_unanswered_and_a_repeat_adds_nothing_twice(valkey, stream):
    stream.send(entries("a1"))
    valkey.freeze()
    with pytest.raises(ChannelDownError, match="Timeout"):
        stream.send(entries("a2"))
    valkey.thaw()
    stream.send(entries("a2", "a3"))
    assert ids(valkey) == ["a1", "a2", "a3"]


def test_refused_messages_are_named_and_nothing_of_their_group_follows(valkey, stream):
    with valkey.client() as client:
        client.set(STREAM, "not a stream")
    with pytest.raises(PublishError, match="WRONGTYPE") as refused:
        stream.send(entries("a1", "a2", "b1"))
    assert set(refused.value.failures) == {0, 1, 2}
    with valkey.client() as client:
        client.delete(STREAM)
    stream.send(entries("a1", "a2", "b1"))
    assert ids(valkey) == ["a1", "a2", "b1"]


def test_stream_is_trimmed_to_about_its_length(valkey, stream):
    for start in range(0, 3000, 500):
        stream.send(entries(*(f"a{number}" for number in range(start, start + 500))))
    assert 1000 <= len(ids(valkey)) < 1300
