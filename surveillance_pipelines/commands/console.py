"""How commands print: tables, progress bars on a terminal, plain lines in a log."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Protocol

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH: Final = 140
"""Columns where no terminal says how many: wide enough that a log keeps a table's rows on one line."""
_PLAIN_EVERY_SECONDS: Final = 5.0


@cache
def console() -> Console:
    """Return the console of standard output."""
    return Console(highlight=False, soft_wrap=False, width=_width(sys.stdout))


@cache
def error_console() -> Console:
    """Return the console of standard error."""
    return Console(highlight=False, stderr=True, width=_width(sys.stderr))


def _width(stream: Any) -> int | None:
    return None if stream.isatty() or "COLUMNS" in os.environ else _PLAIN_WIDTH


def is_live() -> bool:
    """Return whether moving output (bars, live tables) makes sense: a real terminal that is not ``dumb``."""
    return console().is_terminal and not console().is_dumb_terminal


def say(text: str, *, style: str = "") -> None:
    """Print one line; square brackets in it are text, not markup."""
    console().print(escape(text), style=style or None)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless there is one."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def heading(text: str) -> None:
    """Print a line that starts a part of a longer command."""
    console().print(f"\n[bold]{escape(text)}[/bold]")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """Print a table; cells are shown by ``cell``, those of ``mark`` as they are."""
    if title:
        # Above the table and not in it: a narrow table would break its title into pieces.
        console().print(f"[bold]{escape(title)}[/bold]")
    shown = Table(header_style="bold")
    for name in columns:
        shown.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(value if isinstance(value, Text) else Text(cell(value)) for value in row))
    console().print(shown)


def mark(word: str) -> Text:
    """Return a verdict in its colour for a table cell: ok, warn, fail, yes, no and the like."""
    colour = {"ok": "green", "yes": "green", "warn": "yellow", "missed": "yellow", "fail": "red", "no": "red"}.get(word)
    return Text(word, style=colour or "")


def cell(value: Any) -> str:
    """Return a value as a person reads it: ``–`` for nothing, thousands apart, four digits of a fraction.

    What a terminal would obey, such as colours and moves of the cursor, is replaced: a refused input may hold anything.
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
    """Return a price as it was given, up to four decimals; ``–`` for none."""
    if value is None:
        return cell(value)
    whole, _, decimals = f"{value:,.4f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


class Bar(Protocol):
    """Something that shows how far a piece of work is."""

    def advance(self, amount: float = 1) -> None: ...

    def set(self, completed: float, *, total: float | None = None, note: str = "") -> None: ...


@contextmanager
def progress(title: str, total: float) -> Iterator[Bar]:
    """Show a progress bar on a terminal, or a line every few seconds in a log."""
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

    def advance(self, amount: float = 1) -> None:
        self.set(self._done + amount, note=self._note)

    def set(self, completed: float, *, total: float | None = None, note: str = "") -> None:
        self._done, self._note = completed, note
        self._total = self._total if total is None else total
        if time.monotonic() - self._printed >= _PLAIN_EVERY_SECONDS:
            self._print()

    def finish(self) -> None:
        self._print()

    def _print(self) -> None:
        self._printed = time.monotonic()
        took = f"{self._printed - self._started:.1f} s"
        note = f"  {self._note}" if self._note else ""
        say(f"  {self._title}: {self._done:,.0f} of {self._total:,.0f}  {took}{note}")
