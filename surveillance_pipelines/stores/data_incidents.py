"""Data incidents in ``surveillance.data_incidents``: one row each, extended while they last."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal

import psycopg
from psycopg.rows import class_row

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.market.data_incidents import DataIncident, DataIncidentKind

_SAVE: Final = """
    INSERT INTO surveillance.data_incidents AS known
        (id, kind, calendar, symbol, session_date, opens_at, first_minute, last_minute, minutes, sentence, evidence,
         found_by, found_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (id) DO UPDATE SET
        last_minute = excluded.last_minute, minutes = excluded.minutes, sentence = excluded.sentence,
        evidence = excluded.evidence, resolved_at = NULL
    WHERE excluded.last_minute > known.last_minute OR known.resolved_at IS NOT NULL
    RETURNING xmax = 0
"""
"""``xmax`` is 0 for an inserted row. An incident that goes on is extended; a row that says the same is not written."""
_RESOLVE: Final = """
    UPDATE surveillance.data_incidents SET resolved_at = %s
    WHERE opens_at >= %s AND opens_at < %s AND resolved_at IS NULL AND first_minute < %s AND NOT (id = ANY(%s))
"""
_LIST: Final = """
    SELECT id, kind, calendar, symbol, session_date, first_minute, last_minute, minutes, sentence, evidence, found_by,
           found_at, resolved_at
    FROM surveillance.data_incidents
    WHERE (cardinality(%(symbols)s::text[]) = 0 OR symbol = '' OR symbol = ANY(%(symbols)s))
      AND (%(since)s::timestamptz IS NULL OR last_minute >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR first_minute < %(until)s)
    ORDER BY first_minute DESC, symbol LIMIT %(limit)s
"""
_SPLIT_AT: Final = """
    SELECT sentence FROM surveillance.data_incidents
    WHERE kind = 'possible_split' AND symbol = %s AND first_minute = %s
"""


@dataclass(frozen=True, slots=True)
class DataIncidentRow:
    """One row of the table."""

    id: str
    kind: DataIncidentKind
    calendar: str
    symbol: str
    session_date: date
    first_minute: datetime
    last_minute: datetime
    minutes: int
    sentence: str
    evidence: dict[str, float]
    found_by: Literal["live", "bars"]
    found_at: datetime
    resolved_at: datetime | None


def save_data_incidents(
    connection: psycopg.Connection[Any], found: Sequence[DataIncident], *, found_by: Literal["live", "bars"], at: int
) -> int:
    """Add incidents, extend those that went on, and return the number of new rows; ``at`` is in microseconds."""
    new = 0
    for one in found:
        row = connection.execute(
            _SAVE,
            (one.id, one.kind, one.calendar, one.symbol, one.session_date, to_datetime(one.opens_at),
             to_datetime(one.first_minute), to_datetime(one.last_minute), one.minutes, one.sentence,
             json.dumps(dict(one.evidence)), found_by, to_datetime(at)),
        ).fetchone()  # fmt: skip
        new += row is not None and bool(row[0])
    return new


def resolve_others(
    connection: psycopg.Connection[Any], kept: Collection[str], *, since: int, until: int, at: int
) -> int:
    """Mark the incidents of sessions that open in a range as resolved, except ``kept``; return their number.

    Args:
        connection: of the platform's database.
        kept: ids of incidents that were found again.
        since: first opening, microseconds since the epoch.
        until: first opening after the range.
        at: current time, microseconds since the epoch; incidents that begin later than two minutes before it stay.
    """
    settled = to_datetime(at) - timedelta(minutes=2)
    values = (to_datetime(at), to_datetime(since), to_datetime(until), settled, list(kept))
    return connection.execute(_RESOLVE, values).rowcount


def newest_data_incidents(
    connection: psycopg.Connection[Any],
    *,
    symbols: Collection[str] = (),
    since: date | None = None,
    until: date | None = None,
    limit: int,
) -> list[DataIncidentRow]:
    """Return the incidents of some symbols and UTC days, both included, the newest first; nothing selects all."""
    with connection.cursor(row_factory=class_row(DataIncidentRow)) as cursor:
        values = {
            "symbols": list(symbols),
            "since": since,
            "until": None if until is None else until + timedelta(days=1),
            "limit": limit,
        }
        return cursor.execute(_LIST, values).fetchall()


def split_at(connection: psycopg.Connection[Any], symbol: str, bar_start: datetime) -> str | None:
    """Return the sentence of the possible split with which a bar begins; None without one."""
    row = connection.execute(_SPLIT_AT, (symbol, bar_start)).fetchone()
    return None if row is None else row[0]
