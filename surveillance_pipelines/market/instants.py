"""ISO 8601 instants in text, for the queue and for files."""

from datetime import datetime

from surveillance_pipelines.clock import to_us


def parse_instant(text: str) -> int:
    """Return an ISO 8601 instant with its time zone, in microseconds since the epoch.

    Raises:
        ValueError: if the text is no such instant.
        OverflowError: if the instant is before the year 1 in UTC.
    """
    return to_us(datetime.fromisoformat(text))
