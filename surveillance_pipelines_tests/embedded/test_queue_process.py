"""The embedded queue server's process: a long poll ends when its queue changes."""

import asyncio
from typing import Any, cast

import pytest
from ministack.services import sqs

from surveillance_pipelines.embedded.queue_process import CHANGES, Action, Wakes, knowing_clients, prompt

_LONG = 3_600.0
_HANGS = 30.0
"""Seconds after which a test that waits has failed."""


class _Emulator:
    """Queues of message bodies; a look takes all."""

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


def test_nap_ends_with_a_change_of_its_queue() -> None:
    async def story() -> None:
        wakes = Wakes()
        naps = [asyncio.create_task(wakes.nap("a", _LONG)) for _ in range(2)]
        other = asyncio.create_task(wakes.nap("b", _LONG))
        await asyncio.sleep(0)
        wakes.wake("a")
        await asyncio.wait_for(asyncio.gather(*naps), _HANGS)
        assert not other.done()
        other.cancel()

    asyncio.run(story())


def test_nap_without_a_change_ends_by_itself() -> None:
    asyncio.run(asyncio.wait_for(Wakes().nap("a", 0.0), _HANGS))


@pytest.mark.parametrize("change", CHANGES)
def test_long_poll_gives_what_comes_while_it_waits(change: str) -> None:
    async def story() -> None:
        emulator = _Emulator()
        actions = prompt(emulator.actions(), nap_seconds=_LONG)
        poll = asyncio.create_task(actions["ReceiveMessage"]({"WaitTimeSeconds": _LONG}, "http://here/0/a"))
        await asyncio.sleep(0)
        assert actions[change]({"QueueUrl": "http://there/0/a", "Body": "tick"}, "") == {"Id": "tick"}
        assert await asyncio.wait_for(poll, _HANGS) == {"Messages": ["tick"]}
        assert set(emulator.waits) == {0}, "the emulator itself waits for nothing"

    asyncio.run(story())


def test_long_poll_whose_client_has_gone_takes_nothing() -> None:
    async def story() -> None:
        emulator, left = _Emulator(), asyncio.Event()
        actions = prompt(emulator.actions(), nap_seconds=_LONG)
        answers: list[object] = []

        async def client() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def app(scope: Any, events: Any, send: Any) -> None:
            del scope, events, send
            answers.append(await actions["ReceiveMessage"]({"WaitTimeSeconds": _LONG}, "http://here/0/a"))

        poll = asyncio.create_task(cast("Any", knowing_clients(app)({"type": "http"}, client, None)))
        await asyncio.sleep(0)
        left.set()
        await asyncio.wait_for(poll, _HANGS)
        actions["SendMessage"]({"QueueUrl": "http://there/0/a", "Body": "tick"}, "")
        assert (answers, emulator.queues["a"]) == ([{}], ["tick"])

    asyncio.run(story())


def test_short_poll_of_an_empty_queue_gives_nothing_at_once() -> None:
    async def story() -> None:
        receive = prompt(_Emulator().actions(), nap_seconds=_LONG)["ReceiveMessage"]
        assert await asyncio.wait_for(receive({"WaitTimeSeconds": 0}, "http://here/0/a"), _HANGS) == {}

    asyncio.run(story())


def test_poll_that_names_no_wait_is_left_to_the_queues_own_attribute() -> None:
    async def story() -> None:
        emulator = _Emulator()
        assert await prompt(emulator.actions())["ReceiveMessage"]({}, "http://here/0/a") == {}
        assert emulator.waits == [None]

    asyncio.run(story())


def test_installed_emulator_dispatches_through_the_table_that_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, action in prompt(sqs._HANDLERS, nap_seconds=_LONG).items():
        monkeypatch.setitem(sqs._HANDLERS, name, action)

    async def story() -> None:
        made = await sqs._dispatch("CreateQueue", {"QueueName": "prompt.fifo", "Attributes": {"FifoQueue": "true"}}, "")
        url = made["QueueUrl"]
        poll = asyncio.create_task(sqs._dispatch("ReceiveMessage", {"QueueUrl": url, "WaitTimeSeconds": _LONG}, url))
        await asyncio.sleep(0)
        message = {"QueueUrl": url, "MessageBody": "tick", "MessageGroupId": "A", "MessageDeduplicationId": "1"}
        await sqs._dispatch("SendMessage", message, url)
        (received,) = (await asyncio.wait_for(poll, _HANGS))["Messages"]
        assert received["Body"] == "tick"
        await sqs._dispatch("DeleteQueue", {"QueueUrl": url}, url)

    asyncio.run(story())


def test_other_actions_are_the_emulators_own() -> None:
    assert prompt(_Emulator().actions())["ListQueues"]({}, "") == ["a", "b"]
