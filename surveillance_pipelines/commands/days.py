"""Ranges of UTC days, as commands get and give them."""

from datetime import date, datetime

import typer


def as_days(first: datetime, last: datetime) -> tuple[date, date]:
    """Return the two days of a range, first ≤ last.

    Raises:
        typer.BadParameter: if they are the wrong way round.
    """
    if last < first:
        raise typer.BadParameter(f"expected the first day before the last, got {first:%Y-%m-%d} and {last:%Y-%m-%d}")
    return first.date(), last.date()
