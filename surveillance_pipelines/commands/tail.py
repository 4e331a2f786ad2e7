"""``surveillance tail``: watch what the platform says on the output queue."""

import json
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.commands.console import cell, console, error_console, is_live
from surveillance_pipelines.commands.context import Platform, open_platform

_SHOWN_ROWS: Final = 25
_PEEK_SECONDS: Final = 30
_WAIT_SECONDS: Final = 2
_COLUMNS: Final = ("bar", "symbol", "type", "kind", "status", "score", "confidence", "price", "by")


def tail(
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this many messages.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Stop after this many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, as on the queue.")] = False,
    peek: Annotated[bool, typer.Option("--peek", help="Leave the messages on the queue for their consumer.")] = False,
) -> None:
    """Watch the output queue.

    Consumers of one SQS queue compete: what `tail` takes, no other consumer sees. `--peek` gives the messages back when
    it ends; until then they are hidden from others for up to 30 seconds.
    """
    platform = open_platform()
    if not peek:
        error_console().print(
            "taking messages off the queue: no other consumer sees them (--peek leaves them)", style="dim"
        )
    messages = _messages(platform, count=count, timeout=timeout, peek=peek)
    if as_json:
        for message in messages:
            typer.echo(json.dumps(message, separators=(",", ":")))
    elif is_live():
        _show_live(messages)
    else:
        for message in messages:
            typer.echo("  ".join(_row(message)))


def _messages(platform: Platform, *, count: int | None, timeout: float | None, peek: bool) -> Iterator[dict[str, Any]]:
    """Yield decoded messages until there were ``count``, or ``timeout`` seconds have passed."""
    queue = platform.queue(platform.endpoints.output_queue_url)
    ends_at = None if timeout is None else platform.clock.now_us() + round(timeout * MICROSECONDS)
    taken, held = 0, []
    try:
        while count is None or taken < count:
            left = _WAIT_SECONDS if ends_at is None else (ends_at - platform.clock.now_us()) / MICROSECONDS
            if left <= 0:
                return
            wanted = 10 if count is None else min(10, count - taken)
            batch = queue.receive(wanted, wait_seconds=int(min(_WAIT_SECONDS, left)), visibility_seconds=_PEEK_SECONDS)
            for received in batch:
                yield json.loads(received.body)
            taken += len(batch)
            receipts = [received.receipt_handle for received in batch]
            if peek:
                held += receipts
            else:
                queue.delete(receipts)
    finally:
        if held:
            queue.extend_visibility(held, 0)
        queue.close()


def _row(message: dict[str, Any]) -> list[str]:
    return [
        str(message.get("bar_start", ""))[:16].replace("T", " "),
        str(message.get("symbol", "")),
        str(message.get("type", "")),
        str(message.get("kind", "")),
        str(message.get("alert_status") or message.get("bar_status", "")),
        cell(message.get("score")),
        cell(message.get("confidence")),
        cell(message.get("price")),
        "warm-up" if message.get("warmup") else str(message.get("bundle_hash", ""))[:8],
    ]


def _show_live(messages: Iterator[dict[str, Any]]) -> None:
    rows: deque[list[str]] = deque(maxlen=_SHOWN_ROWS)
    counts = {"anomaly": 0, "signal": 0}
    with Live(_table(rows, counts), console=console(), refresh_per_second=4) as live:
        for message in messages:
            rows.append(_row(message))
            counts[message.get("type", "")] = counts.get(message.get("type", ""), 0) + 1
            live.update(_table(rows, counts))


def _table(rows: deque[list[str]], counts: dict[str, int]) -> Table:
    said = ", ".join(f"{number:,} of type {kind}" for kind, number in counts.items())
    shown = Table(title=f"output queue: {said} (ctrl-C ends)", title_justify="left")
    for name in _COLUMNS:
        shown.add_column(name)
    for row in rows:
        shown.add_row(*(escape(value) for value in row))
    return shown
