"""Messages that SQS has set aside return to their queue, with an outcome each."""

import json

import pytest

from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.services.cloud_stores import MAX_RECEIVE_COUNT
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.services.redrive import redrive
from surveillance_pipelines.stores.check_queries import balance
from surveillance_pipelines_tests.engine.market import stream
from surveillance_pipelines_tests.storage_fixtures import sqs_client


@pytest.fixture
def with_policy(platform: Platform) -> Platform:
    """Return a platform whose input queue has a dead-letter queue."""
    endpoints, url = platform.endpoints, platform.endpoints.queue_urls[0]
    client = sqs_client(str(endpoints.sqs_endpoint_url), endpoints.aws)
    name = url.rpartition("/")[2].replace(".fifo", "_aside.fifo")
    aside = client.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=aside, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(MAX_RECEIVE_COUNT)})
    client.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
    return platform


def set_aside(platform: Platform, bodies: list[tuple[str, str]]) -> None:
    queue = platform.queue(platform.endpoints.queue_urls[0])
    queue.send([SendEntry(body, group, f"d{number}") for number, (body, group) in enumerate(bodies)])
    for _ in range(MAX_RECEIVE_COUNT + 1):
        queue.receive(10, visibility_seconds=0)
    depth = queue.dead_letter_depth()
    assert depth is not None
    assert depth.total == len(bodies)


def test_redrive_records_every_message_and_sends_those_that_decode(with_policy: Platform):
    good = [(message.body, message.group_id) for message in stream(2)[:4]]
    set_aside(with_policy, [*good, ("{", "SPY")])
    done = redrive(with_policy)
    assert (done.recorded, done.known, len(done.replayed.sent), len(done.replayed.unsent)) == (5, 0, 4, 1)
    queue = with_policy.queue(with_policy.endpoints.queue_urls[0])
    assert queue.depth().visible == 4
    assert [(m.body, m.group_id) for m in queue.receive(10, visibility_seconds=30)] == good
    with with_policy.connect() as connection:
        assert balance(connection).holds
        outcomes = connection.execute("SELECT outcome, reason, count(*) FROM ops.ledger GROUP BY 1, 2").fetchall()
    assert outcomes == [("dead", "set_aside", 5)]
    again = redrive(with_policy)
    assert (again.recorded, again.known, again.replayed.sent) == (0, 0, {})


def test_redrive_of_a_message_with_an_outcome_only_deletes_it(with_policy: Platform):
    set_aside(with_policy, [(stream(1)[0].body, "SPY")])
    queue = with_policy.queue(with_policy.endpoints.queue_urls[0])
    (message,) = with_policy.queue(str(queue.dead_letter_url())).receive(10, visibility_seconds=0)
    with with_policy.connect() as connection:
        connection.execute(
            "INSERT INTO ops.ledger (message_id, queue_url, outcome, committed_at, fencing) "
            "VALUES (%s, %s, 'scored', now(), 1)",
            (message.message_id, queue.queue_url),
        )
    done = redrive(with_policy)
    assert (done.recorded, done.known, done.replayed.sent) == (0, 1, {})
    assert queue.dead_letter_depth() == with_policy.queue(str(queue.dead_letter_url())).depth()


def test_deduplication_id_of_a_message_set_aside_stays_taken(with_policy: Platform):
    first, second = stream(1)[:2]
    set_aside(with_policy, [(first.body, "SPY"), (second.body, "SPY")])
    with with_policy.connect() as connection:
        connection.execute(
            "INSERT INTO ops.ledger (message_id, dedup_id, queue_url, outcome, committed_at, fencing) "
            "VALUES ('earlier', 'd1', %s, 'scored', now(), 1)",
            (with_policy.endpoints.queue_urls[0],),
        )
    done = redrive(with_policy)
    assert (done.recorded, len(done.replayed.sent)) == (2, 1), "the second one was scored before, under another id"
    with with_policy.connect() as connection:
        rows = connection.execute("SELECT dedup_id, outcome FROM ops.ledger WHERE message_id <> 'earlier'").fetchall()
    assert sorted(rows) == [("d0", "dead"), ("d1", "duplicate")]
