"""What commands that list stored rows share: the range of days, instants, and JSON."""

from datetime import UTC, date, datetime
from typing import Any

import typer


def first_and_last_day(
    day: datetime | None, since: datetime | None, until: datetime | None
) -> tuple[date | None, date | None]:
    """Return the range of days that ``--day``, or ``--since`` and ``--until``, select; None where it is open.

    Raises:
        typer.BadParameter: if they contradict each other.
    """
    if day is not None and (since is not None or until is not None):
        raise typer.BadParameter("expected --day, or --since and --until, got both", param_hint="--day")
    first, last = day or since, day or until
    if first is not None and last is not None and last < first:
        raise typer.BadParameter(f"expected a day from {first:%Y-%m-%d} on, got {last:%Y-%m-%d}", param_hint="--until")
    return (None if first is None else first.date()), (None if last is None else last.date())


def minute(instant: datetime) -> str:
    """Return an instant in UTC to the minute."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}"


def json_instant(value: Any) -> str:
    """Return an instant or a date for ``json.dumps(default=…)``."""
    if isinstance(value, datetime):
        from surveillance_pipelines.clock import to_iso, to_us

        return to_iso(to_us(value))
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"expected a JSON value or an instant, got {type(value).__name__}")
