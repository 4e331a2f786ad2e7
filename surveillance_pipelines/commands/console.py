"""Output of commands: tables, progress bars on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from surveillance_pipelines.contracts.errors import SurveillanceError
from surveillance_pipelines.contracts.price_text import price_text

_PLAIN_WIDTH: Final = 140
"""Width in columns without a terminal; keeps each row of a table on one line of a log."""
_PLAIN_SECONDS: Final = (10.0, 60.0)
"""First and longest interval between two lines of progress in a log. Each interval is twice the previous one."""


def console() -> Console:
    """Return the console of standard output."""
    return Console(highlight=False, soft_wrap=False, width=_width(sys.stdout))


def error_console() -> Console:
    """Return the console of standard error."""
    return Console(highlight=False, stderr=True, width=_width(sys.stderr))


def show_error(error: SurveillanceError) -> None:
    """Print an error on standard error: one line with the message, and one with the remedy, if any."""
    console = error_console()
    console.print(f"error: {_one_line(error.message)}", style="red", markup=False, soft_wrap=True)
    if error.remedy:
        console.print(f"what to do: {_one_line(error.remedy)}", markup=False, soft_wrap=True)


def _one_line(text: str) -> str:
    # Libraries put line breaks, and servers put control characters, into their messages.
    return cell(" ".join(text.split()))


def _width(stream: Any) -> int | None:
    return None if stream.isatty() or "COLUMNS" in os.environ else _PLAIN_WIDTH


def is_live() -> bool:
    """Return whether standard output is a terminal that can redraw progress bars and live tables."""
    return console().is_terminal and not console().is_dumb_terminal


def echo(text: str, *, style: str = "", wrap: bool = True) -> None:
    """Print one line, wrapped at words unless it holds a command to copy; square brackets are text, not markup."""
    console().print(escape(text), style=style or None, soft_wrap=not wrap)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun, in the plural unless the number is 1; the default plural ends in s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def heading(text: str) -> None:
    """Print the heading of a section of a command's output; an empty line precedes it on a terminal."""
    if is_live():
        console().print()
    console().print(f"[bold]{escape(text)}[/bold]")


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    lines: bool = True,
) -> None:
    """Print a table, with or without lines; values are formatted by ``cell``, except ``Text`` from ``mark``."""
    if title:
        # Above the table, not inside it: rich wraps a title to the width of its table.
        console().print(f"[bold]{escape(title)}[/bold]")
    shown = Table(header_style="bold", box=HEAVY_HEAD if lines else None)
    for name in columns:
        shown.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(value if isinstance(value, Text) else Text(cell(value)) for value in row))
    console().print(shown)


def mark(word: str) -> Text:
    """Return a verdict (ok, warn, fail, yes, no, missed) in its colour, for a table cell."""
    colour = {"ok": "green", "yes": "green", "warn": "yellow", "missed": "yellow", "fail": "red", "no": "red"}.get(word)
    return Text(word, style=colour or "")


def cell(value: Any) -> str:
    """Format a value for display: ``–`` for None, thousands separators, four significant digits.

    Control characters are replaced, because the body of a refused input may hold terminal escape sequences.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}"
        for character in str(value)
    )


def price_cell(value: float | None) -> str:
    """Format a price with at least two decimals and six significant digits; ``–`` for None."""
    return cell(value) if value is None else price_text(value)


class Bar(Protocol):
    """A progress display."""

    def advance(self, amount: float = 1) -> None: ...

    def set(self, completed: float, *, total: float | None = None, note: str = "") -> None: ...


@contextmanager
def progress(title: str, total: float) -> Iterator[Bar]:
    """Show a progress bar on a terminal, or a line from time to time in a log, and one at the end."""
    if not is_live():
        bar = _PlainBar(title, total)
        yield bar
        bar.finish()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console()) as shown:
        yield _LiveBar(shown, shown.add_task(escape(title), total=total, note=""))


class _LiveBar:
    def __init__(self, shown: Any, task: Any) -> None:
        self._shown, self._task = shown, task

    def advance(self, amount: float = 1) -> None:
        self._shown.advance(self._task, amount)

    def set(self, completed: float, *, total: float | None = None, note: str = "") -> None:
        self._shown.update(self._task, completed=completed, total=total, note=escape(note))


class _PlainBar:
    def __init__(self, title: str, total: float) -> None:
        self._title, self._total, self._done, self._note = title, total, 0.0, ""
        self._started = self._printed = time.monotonic()
        self._interval = _PLAIN_SECONDS[0]

    def advance(self, amount: float = 1) -> None:
        self.set(self._done + amount, note=self._note)

    def set(self, completed: float, *, total: float | None = None, note: str = "") -> None:
        self._done, self._note = completed, note
        self._total = self._total if total is None else total
        if time.monotonic() - self._printed >= self._interval:
            self._print()
            self._interval = min(2.0 * self._interval, _PLAIN_SECONDS[1])

    def finish(self) -> None:
        self._print()

    def _print(self) -> None:
        self._printed = time.monotonic()
        took = f"{self._printed - self._started:.1f} s"
        note = f"  {self._note}" if self._note else ""
        echo(f"  {self._title}: {self._done:,.0f} of {self._total:,.0f}  {took}{note}")
