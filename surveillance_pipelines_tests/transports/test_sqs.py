from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.queue import AwsCredentials, QueueDepth, SendEntry
from surveillance_pipelines.transports.sqs import QueueClient, QueueError, is_outage

pytestmark = pytest.mark.requirement("ING-01")


@pytest.fixture
def connect_to() -> Any:
    def connect(queue: Any) -> QueueClient:
        return QueueClient(queue.endpoint_url, queue.region, queue.aws, queue.url)

    return connect


def entries(*bodies: str, group: str = "AAPL") -> list[SendEntry]:
    return [SendEntry(body, group, f"{group}-{body}") for body in bodies]


@pytest.mark.requirement("ING-04")
def test_queue_messages_come_in_order_with_what_sqs_knows_of_them(queue, connect_to) -> None:
    client = connect_to(queue)
    sent = client.send(entries("1", "2", "3"))
    received = client.receive(10, visibility_seconds=30)
    assert [message.body for message in received] == ["1", "2", "3"]
    assert [message.message_id for message in received] == sent
    first = received[0]
    assert (first.group_id, first.dedup_id, first.receive_count) == ("AAPL", "AAPL-1", 1)
    assert abs(first.received_at - first.sent_at) < 60 * MICROSECONDS
    assert received[0].sequence_number < received[1].sequence_number
    assert client.depth() == QueueDepth(visible=0, in_flight=3, delayed=0)
    client.delete([message.receipt_handle for message in received])
    assert client.depth().total == 0


@pytest.mark.requirement("ING-04", "ING-06")
def test_queue_receive_takes_at_most_what_is_asked_and_an_empty_queue_gives_nothing(queue, connect_to) -> None:
    client = connect_to(queue)
    assert client.receive(10, wait_seconds=0, visibility_seconds=30) == []
    client.send(entries(*"abcde"))
    assert len(client.receive(2, visibility_seconds=30)) == 2


def test_queue_send_more_than_one_batch_keeps_the_order(queue, connect_to) -> None:
    client = connect_to(queue)
    bodies = [f"{number:02d}" for number in range(25)]
    assert len(set(client.send(entries(*bodies)))) == 25
    received = []
    while batch := client.receive(10, visibility_seconds=60):
        received += [message.body for message in batch]
        # SQS holds a group back while any of its messages is in flight.
        client.delete([message.receipt_handle for message in batch])
    assert received == bodies


def test_queue_delete_takes_more_receipts_than_one_batch(queue, connect_to) -> None:
    client = connect_to(queue)
    client.send([entry for number in range(12) for entry in entries("1", group=f"G{number}")])
    received = client.receive(10, visibility_seconds=60) + client.receive(10, visibility_seconds=60)
    client.delete([message.receipt_handle for message in received])
    assert (len(received), client.depth().total) == (12, 0)


def test_queue_message_shown_again_is_received_again(queue, connect_to) -> None:
    client = connect_to(queue)
    client.send(entries("1"))
    (message,) = client.receive(10, visibility_seconds=600)
    assert client.receive(10, visibility_seconds=600) == []
    client.extend_visibility([message.receipt_handle], 0)
    (again,) = client.receive(10, visibility_seconds=600)
    assert (again.message_id, again.receive_count) == (message.message_id, 2)


def test_queue_repeated_dedup_id_is_one_message(queue, connect_to) -> None:
    client = connect_to(queue)
    first = client.send(entries("1"))
    assert client.send(entries("1")) == first
    assert client.depth().visible == 1


def test_queue_failed_entry_is_named_and_the_others_go_through(queue, connect_to) -> None:
    client = connect_to(queue)
    client.send(entries("1", "2"))
    good, other = client.receive(10, visibility_seconds=30)
    with pytest.raises(QueueError, match="1 failed; entry 1") as caught:
        client.delete([good.receipt_handle, "no such receipt", other.receipt_handle])
    assert list(caught.value.failures) == [1]
    assert client.depth().total == 0


def test_queue_knows_whether_ids_come_from_content(make_queue, connect_to) -> None:
    assert not connect_to(make_queue()).content_based_dedup
    derived = connect_to(make_queue(ContentBasedDeduplication="true"))
    assert derived.content_based_dedup
    derived.send([SendEntry("1", "AAPL")])
    assert derived.receive(10, visibility_seconds=30)[0].body == "1"


def test_queue_that_does_not_exist_or_answer_raises(queue) -> None:
    absent = QueueClient(queue.endpoint_url, queue.region, queue.aws, queue.url.replace("market", "absent"))
    with pytest.raises(ClientError, match=r"NonExistentQueue|does not exist"):
        absent.receive(1, visibility_seconds=30)
    nobody = QueueClient("http://127.0.0.1:9", queue.region, queue.aws, queue.url, connect_timeout_seconds=0.2)
    with pytest.raises(EndpointConnectionError) as refused:
        nobody.depth()
    assert is_outage(refused.value)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(400, "RequestThrottled", True), (429, "Anything", True), (503, "ServiceUnavailable", True),
     (403, "AccessDenied", False), (400, "AWS.SimpleQueueService.NonExistentQueue", False)],
)  # fmt: skip
def test_outages_are_told_from_refusals(status, code, expected) -> None:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert is_outage(ClientError(response, "ReceiveMessage")) is expected


def test_credentials_secret_is_not_printed() -> None:
    assert "secret" not in repr(AwsCredentials("id", "secret"))
