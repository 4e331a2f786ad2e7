"""``surveillance tail``: watch the messages of the output queue."""

import json
import math
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.commands.console import cell, console, counted, error_console, is_live, price_cell

if TYPE_CHECKING:
    from surveillance_pipelines.services.platform import Platform

FOREIGN: Final = "foreign"
"""Type shown for a message that the platform has not written."""
_SHOWN_ROWS: Final = 25
_SHOWN_BODY: Final = 60
_HIDDEN_SECONDS: Final = 30
_PEEK_SECONDS: Final = 25.0
"""Less than the visibility timeout, so that no message is received twice: SQS counts receives (redrive policy)."""
_WAIT_SECONDS: Final = 2
_COLUMNS: Final = ("bar", "symbol", "type", "kind", "status", "score", "confidence", "price", "by")


def tail(
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this many messages.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Stop after this many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, as on the queue.")] = False,
    peek: Annotated[
        bool, typer.Option("--peek", help="Return the messages to the queue; stop after at most 25 seconds.")
    ] = False,
) -> None:
    """Watch the output queue. Messages are deleted from the queue, so other consumers do not receive them.

    With `--peek` the messages are hidden from other consumers for at most 25 seconds and then returned. Each peek
    counts as a receive: after the `maxReceiveCount` of the queue's redrive policy (five on a queue created by
    `surveillance prepare`), SQS moves a message to the dead-letter queue. A message that the platform has not written
    is shown with the type `foreign`.
    """
    from surveillance_pipelines.services.platform import open_platform

    platform = open_platform()
    if not peek:
        error_console().print(
            "deleting messages from the queue: other consumers do not receive them (--peek returns them)", style="dim"
        )
    if peek:
        timeout = _PEEK_SECONDS if timeout is None else min(timeout, _PEEK_SECONDS)
    messages = _messages(platform, count=count, timeout=timeout, peek=peek)
    if as_json:
        for message in messages:
            typer.echo(json.dumps(message, separators=(",", ":")))
    elif is_live():
        _show_live(messages)
    else:
        _print(messages)


def _print(messages: Iterator[dict[str, Any]]) -> None:
    """Print one line per message and the number of messages, also after ctrl-C."""
    typer.echo("  ".join(_COLUMNS))
    shown = 0
    try:
        for message in messages:
            typer.echo("  ".join(_row(message)))
            shown += 1
    finally:
        typer.echo(counted(shown, "message"))


def _messages(
    platform: "Platform", *, count: int | None, timeout: float | None, peek: bool
) -> Iterator[dict[str, Any]]:
    """Yield up to ``count`` decoded messages; stop after ``timeout`` seconds."""
    queue = platform.queue(platform.endpoints.output_queue_url)
    ends_at = None if timeout is None else platform.clock.now_us() + round(timeout * MICROSECONDS)
    taken, held = 0, []
    try:
        while count is None or taken < count:
            left = _WAIT_SECONDS if ends_at is None else (ends_at - platform.clock.now_us()) / MICROSECONDS
            if left <= 0:
                return
            wanted = 10 if count is None else min(10, count - taken)
            batch = queue.receive(
                wanted, wait_seconds=math.ceil(min(_WAIT_SECONDS, left)), visibility_seconds=_HIDDEN_SECONDS
            )
            taken += len(batch)
            receipts = [received.receipt_handle for received in batch]
            held += receipts if peek else []  # before the first is shown: ctrl-C must return the whole batch
            for received in batch:
                yield _decoded(received.body)
            if not peek:
                queue.delete(receipts)
    finally:
        if held:
            queue.extend_visibility(held, 0)
        queue.close()


def _decoded(body: str) -> dict[str, Any]:
    """Return a message; one that is not the platform's, of the type ``foreign`` with its body."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and isinstance(found.get("type"), str):
        return found
    return {"type": FOREIGN, "body": body}


def _row(message: dict[str, Any]) -> list[str]:
    if message["type"] == FOREIGN:
        return ["", "", FOREIGN, cell(str(message.get("body", ""))[:_SHOWN_BODY]), *[""] * (len(_COLUMNS) - 4)]
    price = message.get("price")
    return [
        cell(str(message.get("bar_start", ""))[:16].replace("T", " ")),
        cell(str(message.get("symbol", ""))),
        cell(message["type"]),
        cell(str(message.get("kind", ""))),
        cell(str(message.get("alert_status") or message.get("incident_status") or message.get("bar_status", ""))),
        cell(message.get("score")),
        cell(message.get("confidence")),
        price_cell(price) if price is None or type(price) in (int, float) else cell(price),
        "warm-up" if message.get("warmup") else cell(str(message.get("bundle_hash", ""))[:8]),
    ]


def _show_live(messages: Iterator[dict[str, Any]]) -> None:
    rows: deque[list[str]] = deque(maxlen=_SHOWN_ROWS)
    counts = {"incident": 0, "anomaly": 0, "signal": 0}
    with Live(_table(rows, counts), console=console(), refresh_per_second=4) as live:
        for message in messages:
            rows.append(_row(message))
            counts[message["type"]] = counts.get(message["type"], 0) + 1
            live.update(_table(rows, counts))


def _table(rows: deque[list[str]], counts: dict[str, int]) -> Table:
    summary = ", ".join(f"{number:,} of type {kind}" for kind, number in counts.items())
    shown = Table(title=f"output queue: {summary} (ctrl-C ends)", title_justify="left")
    for name in _COLUMNS:
        shown.add_column(name)
    for row in rows:
        shown.add_row(*(escape(value) for value in row))
    return shown
