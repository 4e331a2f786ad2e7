"""The process of the embedded queue server: ministack, with access control, indexes and prompt long polls.

``queue_access.py`` refuses requests that are not signed with the credentials in ``QUEUE_CREDENTIALS_FILE``, which is
required. ``queue_index.py`` makes the cost of a call independent of the number of waiting messages.

SQS answers a long poll as soon as there is a message. The emulator checks every 100 ms, which would be most of the
latency on one machine. The emulator also continues a poll after its client has disconnected, so the poll of a killed
run would receive and hide the next messages. This module replaces both behaviours and keeps everything else. The
emulator's version is pinned, because its functions are not a public interface.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, cast

from surveillance_pipelines.embedded.queue_access import AccessControl, App, Events, with_access_control
from surveillance_pipelines.embedded.queue_credentials import read_credentials
from surveillance_pipelines.embedded.queue_index import index_queues

Action = Callable[[dict[str, Any], str], Any]
"""Takes a request and the queue's URL; returns the response or an awaitable of it."""

CREDENTIALS_VARIABLE: Final = "QUEUE_CREDENTIALS_FILE"
"""Environment variable with the file of the accepted credentials; the process does not start without it."""

HOST_NAMES_VARIABLE: Final = "QUEUE_HOST_NAMES"
"""Environment variable: names of this host for clients on other hosts, separated by commas; for containers."""

CHANGES: Final = (
    "SendMessage", "SendMessageBatch", "DeleteMessage", "DeleteMessageBatch", "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
)  # fmt: skip
"""Actions after which a queue may have a message to deliver; a deletion releases the next message of its group."""

MAX_WAIT_SECONDS: Final = 0.1
"""Interval at which a long poll checks its queue without a change, because a visibility timeout ends without a call."""


_CLIENT: Final[ContextVar[Events | None]] = ContextVar("client", default=None)


class QueueChanges:
    """Notifies long polls of changes of their queue."""

    def __init__(self) -> None:
        self._changed: Final[dict[str, asyncio.Event]] = {}

    def notify(self, queue: str) -> None:
        """Wake all long polls that wait for a queue."""
        if (changed := self._changed.pop(queue, None)) is not None:
            changed.set()

    async def wait(self, queue: str, seconds: float) -> None:
        """Wait for a change of a queue, at most ``seconds``."""
        changed = self._changed.setdefault(queue, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            pass


def with_prompt_polls(actions: Mapping[str, Action], wait_seconds: float = MAX_WAIT_SECONDS) -> dict[str, Action]:
    """Return the emulator's actions, changed so that a change of a queue wakes the long polls that wait for it.

    Args:
        actions: name → action.
        wait_seconds: interval at which a long poll checks its queue without a change.
    """
    changes = QueueChanges()
    notifying = {name: _notifying(actions[name], changes) for name in CHANGES}
    return {**actions, **notifying, "ReceiveMessage": _long_poll(actions["ReceiveMessage"], changes, wait_seconds)}


def _notifying(action: Action, changes: QueueChanges) -> Action:
    def call(request: dict[str, Any], url: str) -> object:
        response = action(request, url)
        changes.notify(_name(request, url))
        return response

    return call


def _long_poll(receive: Action, changes: QueueChanges, wait_seconds: float) -> Action:
    async def call(request: dict[str, Any], url: str) -> object:
        if request.get("WaitTimeSeconds") is None:  # the queue's own attribute determines the wait
            return await cast("Awaitable[object]", receive(request, url))
        short_poll = {**request, "WaitTimeSeconds": 0}
        now = asyncio.get_running_loop().time
        deadline, queue = now() + int(request["WaitTimeSeconds"]), _name(request, url)
        disconnected: asyncio.Task[None] | None = None
        try:
            while True:
                response = await cast("Awaitable[object]", receive(short_poll, url))
                left = deadline - now()
                if response or left <= 0:
                    return response
                if disconnected is None:
                    disconnected = asyncio.create_task(_disconnect(_CLIENT.get()))
                    disconnected.add_done_callback(lambda _: changes.notify(queue))
                await changes.wait(queue, min(left, wait_seconds))
                if disconnected.done():
                    return {}
        finally:
            if disconnected is not None:
                disconnected.cancel()

    return call


def with_client_events(app: App) -> App:
    """Return an ASGI application whose long polls end when their client disconnects."""

    async def call(scope: MutableMapping[str, Any], events: Events, send: Any) -> None:
        _CLIENT.set(events)
        await app(scope, events, send)

    return call


async def _disconnect(client: Events | None) -> None:
    """Wait until a client whose request has been read disconnects; without a client, wait forever."""
    if client is None:
        await asyncio.Event().wait()
    else:
        while (await client())["type"] != "http.disconnect":
            pass


def _name(request: Mapping[str, Any], url: str) -> str:
    return str(request.get("QueueUrl") or url).rpartition("/")[2]


def main() -> None:
    """Serve until a signal stops the process."""
    from ministack import app  # imported here because it is an optional dependency
    from ministack.services import sqs

    index_queues(sqs)
    sqs._HANDLERS.update(with_prompt_polls(sqs._HANDLERS))  # noqa: SLF001 (see the module docstring)
    app.app = _with_access_control(with_client_events(app.app))
    app.main()


def _with_access_control(app: App) -> App:
    path = os.environ.get(CREDENTIALS_VARIABLE)
    credentials = None if path is None else read_credentials(Path(path))
    if credentials is None:
        sys.exit(
            f"expected the credentials of the queue server in {path or CREDENTIALS_VARIABLE}, got none: restart the "
            "services of the home"
        )
    names = [name for name in os.environ.get(HOST_NAMES_VARIABLE, "").split(",") if name]
    return with_access_control(app, AccessControl(credentials, int(os.environ["GATEWAY_PORT"]), names=names))


if __name__ == "__main__":
    main()
