"""The embedded queue server's process: a long poll ends when its queue changes."""

import asyncio
from typing import Any, cast

import pytest
from ministack.services import sqs

from surveillance_pipelines.embedded.queue_process import (
    CHANGES,
    Action,
    QueueChanges,
    with_client_events,
    with_prompt_polls,
)

_LONG = 3_600.0
_HANGS = 30.0
"""Seconds after which a waiting test fails."""


class _Emulator:
    """Queues of message bodies; a receive takes all of them."""

    def __init__(self) -> None:
        self.queues: dict[str, list[str]] = {"a": [], "b": []}
        self.waits: list[Any] = []

    def actions(self) -> dict[str, Action]:
        return dict.fromkeys(CHANGES, self.change) | {"ReceiveMessage": self.receive, "ListQueues": self.names}

    def change(self, request: dict[str, Any], url: str) -> dict[str, Any]:
        del url
        self.queues[request["QueueUrl"].rpartition("/")[2]].append(request["Body"])
        return {"Id": request["Body"]}

    async def receive(self, request: dict[str, Any], url: str) -> dict[str, Any]:
        self.waits.append(request.get("WaitTimeSeconds"))
        queue = self.queues[url.rpartition("/")[2]]
        found, queue[:] = list(queue), []
        return {"Messages": found} if found else {}

    def names(self, request: dict[str, Any], url: str) -> list[str]:
        del request, url
        return list(self.queues)


def test_wait_ends_with_a_change_of_its_queue() -> None:
    async def scenario() -> None:
        changes = QueueChanges()
        waits = [asyncio.create_task(changes.wait("a", _LONG)) for _ in range(2)]
        other = asyncio.create_task(changes.wait("b", _LONG))
        await asyncio.sleep(0)
        changes.notify("a")
        await asyncio.wait_for(asyncio.gather(*waits), _HANGS)
        assert not other.done()
        other.cancel()

    asyncio.run(scenario())


def test_wait_without_a_change_times_out() -> None:
    asyncio.run(asyncio.wait_for(QueueChanges().wait("a", 0.0), _HANGS))


@pytest.mark.parametrize("change", CHANGES)
def test_long_poll_returns_a_message_that_arrives_while_it_waits(change: str) -> None:
    async def scenario() -> None:
        emulator = _Emulator()
        actions = with_prompt_polls(emulator.actions(), wait_seconds=_LONG)
        poll = asyncio.create_task(actions["ReceiveMessage"]({"WaitTimeSeconds": _LONG}, "http://here/0/a"))
        await asyncio.sleep(0)
        assert actions[change]({"QueueUrl": "http://there/0/a", "Body": "tick"}, "") == {"Id": "tick"}
        assert await asyncio.wait_for(poll, _HANGS) == {"Messages": ["tick"]}
        assert set(emulator.waits) == {0}, "the emulator itself does not wait"

    asyncio.run(scenario())


def test_long_poll_of_a_disconnected_client_receives_nothing() -> None:
    async def scenario() -> None:
        emulator, left = _Emulator(), asyncio.Event()
        actions = with_prompt_polls(emulator.actions(), wait_seconds=_LONG)
        answers: list[object] = []

        async def client() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def app(scope: Any, events: Any, send: Any) -> None:
            del scope, events, send
            answers.append(await actions["ReceiveMessage"]({"WaitTimeSeconds": _LONG}, "http://here/0/a"))

        poll = asyncio.create_task(cast("Any", with_client_events(app)({"type": "http"}, client, None)))
        await asyncio.sleep(0)
        left.set()
        await asyncio.wait_for(poll, _HANGS)
        actions["SendMessage"]({"QueueUrl": "http://there/0/a", "Body": "tick"}, "")
        assert (answers, emulator.queues["a"]) == ([{}], ["tick"])

    asyncio.run(scenario())


def test_short_poll_of_an_empty_queue_returns_at_once() -> None:
    async def scenario() -> None:
        receive = with_prompt_polls(_Emulator().actions(), wait_seconds=_LONG)["ReceiveMessage"]
        assert await asyncio.wait_for(receive({"WaitTimeSeconds": 0}, "http://here/0/a"), _HANGS) == {}

    asyncio.run(scenario())


def test_poll_without_a_wait_time_uses_the_attribute_of_the_queue() -> None:
    async def scenario() -> None:
        emulator = _Emulator()
        assert await with_prompt_polls(emulator.actions())["ReceiveMessage"]({}, "http://here/0/a") == {}
        assert emulator.waits == [None]

    asyncio.run(scenario())


def test_installed_emulator_dispatches_through_the_patched_table(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, action in with_prompt_polls(sqs._HANDLERS, wait_seconds=_LONG).items():
        monkeypatch.setitem(sqs._HANDLERS, name, action)

    async def scenario() -> None:
        made = await sqs._dispatch("CreateQueue", {"QueueName": "prompt.fifo", "Attributes": {"FifoQueue": "true"}}, "")
        url = made["QueueUrl"]
        poll = asyncio.create_task(sqs._dispatch("ReceiveMessage", {"QueueUrl": url, "WaitTimeSeconds": _LONG}, url))
        await asyncio.sleep(0)
        message = {"QueueUrl": url, "MessageBody": "tick", "MessageGroupId": "A", "MessageDeduplicationId": "1"}
        await sqs._dispatch("SendMessage", message, url)
        (received,) = (await asyncio.wait_for(poll, _HANGS))["Messages"]
        assert received["Body"] == "tick"
        await sqs._dispatch("DeleteQueue", {"QueueUrl": url}, url)

    asyncio.run(scenario())


def test_other_actions_are_unchanged() -> None:
    assert with_prompt_polls(_Emulator().actions())["ListQueues"]({}, "") == ["a", "b"]
