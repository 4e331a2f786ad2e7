"""Ranges of UTC days in command arguments."""

from datetime import date, datetime

import typer


def as_days(first: datetime, last: datetime) -> tuple[date, date]:
    """Return the first and the last day of a range.

    Raises:
        typer.BadParameter: if ``last`` is before ``first``.
    """
    if last < first:
        raise typer.BadParameter(f"expected first day ≤ last day, got {first:%Y-%m-%d} and {last:%Y-%m-%d}")
    return first.date(), last.date()
