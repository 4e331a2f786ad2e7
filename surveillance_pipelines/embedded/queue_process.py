"""The process of the embedded queue server: ministack, with long polls that end when a message comes.

SQS answers a long poll as soon as there is a message. The emulator looks every 100 ms, which would be the greatest part
of the latency that anyone sees on one machine. And it goes on where the client has gone: a killed run's poll would take
the next messages, and hide them. Everything else is the emulator's own; its version is pinned, because its table of
actions is not a public interface.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, cast

Action = Callable[[dict[str, Any], str], Any]
"""Takes a request and the queue's URL and returns the answer, or what to await for it."""

Events = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""ASGI's: gives the next thing that the client did."""
App = Callable[[MutableMapping[str, Any], Events, Any], Awaitable[None]]

CHANGES: Final = (
    "SendMessage", "SendMessageBatch", "DeleteMessage", "DeleteMessageBatch", "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
)  # fmt: skip
"""After these a queue may have something to give; a deletion opens the next message of its group."""

LONGEST_NAP_SECONDS: Final = 0.1
"""A message whose visibility timeout ends makes no call: somebody must look."""


_CLIENT: Final[ContextVar[Events | None]] = ContextVar("client", default=None)


class Wakes:
    """Long polls that wait for a change of their queue."""

    def __init__(self) -> None:
        self._changed: Final[dict[str, asyncio.Event]] = {}

    def wake(self, queue: str) -> None:
        """Let everybody look who waits for a queue."""
        if (changed := self._changed.pop(queue, None)) is not None:
            changed.set()

    async def nap(self, queue: str, seconds: float) -> None:
        """Wait for a change of a queue, at most ``seconds``."""
        changed = self._changed.setdefault(queue, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            pass


def prompt(actions: Mapping[str, Action], nap_seconds: float = LONGEST_NAP_SECONDS) -> dict[str, Action]:
    """Return the emulator's actions, of which those that change a queue wake the long polls that wait for it.

    Args:
        actions: name → action.
        nap_seconds: a long poll looks that often although nothing has changed.
    """
    wakes = Wakes()
    waking = {name: _waking(actions[name], wakes) for name in CHANGES}
    return {**actions, **waking, "ReceiveMessage": _long_poll(actions["ReceiveMessage"], wakes, nap_seconds)}


def _waking(action: Action, wakes: Wakes) -> Action:
    def call(request: dict[str, Any], url: str) -> object:
        answer = action(request, url)
        wakes.wake(_name(request, url))
        return answer

    return call


def _long_poll(receive: Action, wakes: Wakes, nap_seconds: float) -> Action:
    async def call(request: dict[str, Any], url: str) -> object:
        if request.get("WaitTimeSeconds") is None:  # the queue's own attribute says how long
            return await cast("Awaitable[object]", receive(request, url))
        look = {**request, "WaitTimeSeconds": 0}
        now = asyncio.get_running_loop().time
        deadline, queue = now() + int(request["WaitTimeSeconds"]), _name(request, url)
        gone: asyncio.Task[None] | None = None
        try:
            while True:
                answer = await cast("Awaitable[object]", receive(look, url))
                left = deadline - now()
                if answer or left <= 0:
                    return answer
                if gone is None:
                    gone = asyncio.create_task(_leaving(_CLIENT.get()))
                    gone.add_done_callback(lambda _: wakes.wake(queue))
                await wakes.nap(queue, min(left, nap_seconds))
                if gone.done():
                    return {}
        finally:
            if gone is not None:
                gone.cancel()

    return call


def knowing_clients(app: App) -> App:
    """Return an ASGI application whose long polls end with their clients."""

    async def call(scope: MutableMapping[str, Any], events: Events, send: Any) -> None:
        _CLIENT.set(events)
        await app(scope, events, send)

    return call


async def _leaving(client: Events | None) -> None:
    """Wait until a client, whose request has been read, has gone; for ever where none is known."""
    if client is None:
        await asyncio.Event().wait()
    else:
        while (await client())["type"] != "http.disconnect":
            pass


def _name(request: Mapping[str, Any], url: str) -> str:
    return str(request.get("QueueUrl") or url).rpartition("/")[2]


def main() -> None:
    """Serve until a signal asks to stop."""
    from ministack import app  # here: not everybody who imports this has installed it
    from ministack.services import sqs

    sqs._HANDLERS.update(prompt(sqs._HANDLERS))  # noqa: SLF001 (see above)
    app.app = knowing_clients(app.app)
    app.main()


if __name__ == "__main__":
    main()
