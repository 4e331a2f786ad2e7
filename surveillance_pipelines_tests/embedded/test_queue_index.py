"""The indexed queues give the results of the emulator's own functions."""

import copy
import importlib.util
import itertools
import json
import random
from types import SimpleNamespace
from typing import Any

import pytest
from ministack.services import sqs

from surveillance_pipelines.embedded.queue_index import index_queues

_QUEUES = ("ticks.fifo", "dead.fifo", "plain", "delayed.fifo")
_STEPS = 1_000


class _Emulator:
    """A copy of the emulator's module with its own queues, a clock that a test sets, and ids in a fixed order."""

    def __init__(self, *, indexed: bool) -> None:
        spec = importlib.util.find_spec(sqs.__name__)
        assert spec is not None
        assert spec.loader is not None
        self.module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        ids = itertools.count(1)
        self.now = 1_700_000_000.0
        self.module.time = SimpleNamespace(time=lambda: self.now)
        self.module.new_uuid = lambda: f"id-{next(ids)}"
        if indexed:
            index_queues(self.module)

    def call(self, action: str, **request: Any) -> Any:
        """Return the response or the error; a call without a wait never suspends."""
        try:
            self.module._dispatch(action, request, "").send(None)
        except StopIteration as done:
            return done.value
        except self.module._Err as error:
            return error.code, error.message
        raise AssertionError(f"{action} waits")

    def state(self) -> Any:
        for _, queue in self.module._queues.all_items():
            self.module._prune_dedup(queue)
        return copy.deepcopy(self.module.get_state()["queues"]._data)


def _create(emulator: _Emulator) -> None:
    fifo = {"FifoQueue": "true", "VisibilityTimeout": "5", "MessageRetentionPeriod": "120"}
    emulator.call("CreateQueue", QueueName="dead.fifo", Attributes=fifo)
    arn = "arn:aws:sqs:us-east-1:000000000000:dead.fifo"
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "3"})
    emulator.call("CreateQueue", QueueName="ticks.fifo", Attributes={**fifo, "RedrivePolicy": policy})
    emulator.call("CreateQueue", QueueName="plain", Attributes={"VisibilityTimeout": "3"})
    emulator.call("CreateQueue", QueueName="delayed.fifo", Attributes={**fifo, "DelaySeconds": "4"})


def _step(rng: random.Random, receipts: list[str]) -> tuple[str, dict[str, Any]]:
    queue = rng.choices(_QUEUES, weights=(6, 1, 2, 2))[0]
    known = rng.sample(receipts, min(len(receipts), rng.randint(1, 10))) or ["unknown"]
    entries = [{"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(known)]
    kind = rng.choices(
        ("send", "receive", "delete", "delete one", "hide", "hide one", "count", "configure", "purge"),
        weights=(30, 30, 12, 5, 10, 3, 8, 1, 0.2),
    )[0]
    match kind:
        case "send":
            message = {"MessageBody": "x" * rng.randint(1, 9)}
            if queue.endswith(".fifo"):
                message |= {"MessageGroupId": rng.choice("ABCDE"), "MessageDeduplicationId": str(rng.randint(1, 400))}
            return "SendMessage", {"QueueUrl": queue, **message}
        case "receive":
            chosen = {"VisibilityTimeout": rng.choice((0, 1, 20))} if rng.random() < 0.3 else {}
            return "ReceiveMessage", {
                "QueueUrl": queue, "MaxNumberOfMessages": rng.randint(1, 10), "AttributeNames": ["All"], **chosen,
            }  # fmt: skip
        case "delete":
            return "DeleteMessageBatch", {"QueueUrl": queue, "Entries": entries}
        case "delete one":
            return "DeleteMessage", {"QueueUrl": queue, "ReceiptHandle": known[0]}
        case "hide":
            hidden = [{**entry, "VisibilityTimeout": rng.choice((0, 2, 15))} for entry in entries]
            return "ChangeMessageVisibilityBatch", {"QueueUrl": queue, "Entries": hidden}
        case "hide one":
            return "ChangeMessageVisibility", {
                "QueueUrl": queue, "ReceiptHandle": known[0], "VisibilityTimeout": rng.choice((0, 7)),
            }  # fmt: skip
        case "configure":
            attributes = {"DelaySeconds": rng.choice(("0", "4")), "MessageRetentionPeriod": rng.choice(("60", "120"))}
            return "SetQueueAttributes", {"QueueUrl": queue, "Attributes": attributes}
        case "purge":
            return "PurgeQueue", {"QueueUrl": queue}
        case _:
            return "GetQueueAttributes", {"QueueUrl": queue, "AttributeNames": ["All"]}


@pytest.mark.parametrize("seed", range(20))
def test_indexed_queues_random_calls_give_the_results_of_the_emulator(seed: int) -> None:
    rng = random.Random(seed)
    plain, indexed = _Emulator(indexed=False), _Emulator(indexed=True)
    _create(plain)
    _create(indexed)
    receipts: list[str] = []
    for _ in range(_STEPS):
        action, request = _step(rng, receipts)
        expected, found = plain.call(action, **request), indexed.call(action, **request)
        assert found == expected, (action, request)
        if action == "ReceiveMessage":
            receipts = [*receipts, *(message["ReceiptHandle"] for message in expected.get("Messages", []))][-60:]
        plain.now = indexed.now = plain.now + rng.choice((0, 0, 0, 0.001, 0.5, 3))
        if rng.random() < 0.02:
            indexed.module._queues._data.update(indexed.state())  # as after a restart: the saved state is lists
    assert indexed.state() == plain.state()


def test_saved_state_of_an_indexed_queue_is_a_list() -> None:
    emulator = _Emulator(indexed=True)
    _create(emulator)
    emulator.call("SendMessage", QueueUrl="plain", MessageBody="tick")
    emulator.call("ReceiveMessage", QueueUrl="plain")
    (saved,) = [queue["messages"] for queue in emulator.state().values() if queue["name"] == "plain"]
    assert (type(saved), saved[0]["body"]) == (list, "tick")


def test_records_of_deleted_messages_are_dropped() -> None:
    """Without this, each message would take memory until the queue's retention ends, days later."""
    emulator = _Emulator(indexed=True)
    _create(emulator)
    emulator.call("SendMessage", QueueUrl="plain", MessageBody="stays")
    emulator.call("ReceiveMessage", QueueUrl="plain", VisibilityTimeout=40_000)
    for _ in range(3_000):
        emulator.call("SendMessage", QueueUrl="plain", MessageBody="tick")
        (received,) = emulator.call("ReceiveMessage", QueueUrl="plain", VisibilityTimeout=40_000)["Messages"]
        emulator.call("DeleteMessage", QueueUrl="plain", ReceiptHandle=received["ReceiptHandle"])
    messages = emulator.module._get_q("plain")["messages"]
    heaps = (messages._hidden, messages._by_age, messages._deliverable)
    assert len(messages) == 1
    assert max(map(len, heaps)) < 1_010
