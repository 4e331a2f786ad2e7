"""Trading sessions in PostgreSQL, so that the live lane needs no calendar library."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import polars as pl
import psycopg

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.frames import SESSION_SCHEMA
from surveillance_pipelines.contracts.sessions import SessionTable

_SAVE = """
    INSERT INTO surveillance.sessions (calendar, session_date, opens_at, closes_at) VALUES (%s, %s, %s, %s)
    ON CONFLICT (calendar, session_date) DO UPDATE SET opens_at = excluded.opens_at, closes_at = excluded.closes_at
    WHERE (sessions.opens_at, sessions.closes_at) IS DISTINCT FROM (excluded.opens_at, excluded.closes_at)
"""


_BETWEEN = """
    SELECT calendar, session_date, opens_at, closes_at FROM {record}
    WHERE calendar = ANY(%(calendars)s) AND session_date BETWEEN %(first)s AND %(last)s
"""
_LAST_BEFORE = """
    SELECT DISTINCT ON (calendar) calendar, session_date, opens_at, closes_at FROM {record}
    WHERE calendar = ANY(%(calendars)s) AND session_date < %(first)s ORDER BY calendar, session_date DESC
"""
_AS_OF = """(
    SELECT s.calendar, s.session_date, coalesce(r.opens_at, s.opens_at) AS opens_at,
           coalesce(r.closes_at, s.closes_at) AS closes_at
    FROM surveillance.sessions s LEFT JOIN LATERAL (
        SELECT opens_at, closes_at FROM surveillance.replaced_sessions
        WHERE calendar = s.calendar AND session_date = s.session_date AND replaced_at > %(as_of)s
        ORDER BY replaced_at LIMIT 1
    ) r ON true
    WHERE s.recorded_at IS NULL OR s.recorded_at <= %(as_of)s
) AS record"""
"""The sessions as recorded at an instant: without later sessions, and with the hours that were replaced later."""


class NoSessionsError(SurveillanceError, ValueError, code=ErrorCode.NOT_READY):
    """A calendar has no recorded session up to the requested day."""


def save_sessions(connection: psycopg.Connection[Any], rows: pl.DataFrame) -> None:
    """Write sessions of ``SESSION_SCHEMA``; a session with changed hours replaces the stored hours."""
    with connection.cursor() as cursor:
        cursor.executemany(_SAVE, rows.select(SESSION_SCHEMA.names()).rows())


def load_sessions(
    connection: psycopg.Connection[Any],
    calendars: Sequence[str],
    first: date,
    last: date,
    *,
    as_of: datetime | None = None,
) -> SessionTable:
    """Return the sessions of calendars between two dates, both included.

    The first calendar is the default for symbols without a mapping (see ``SessionTable.with_calendars``). If the record
    of a calendar ends before ``first``, the result contains its last session, so that the calendar counts as closed and
    does not affect the others.

    Args:
        connection: connection to PostgreSQL.
        calendars: names, the default first.
        first: first session date.
        last: last session date.
        as_of: return the record as of this instant of PostgreSQL's clock; None for the current record.

    Raises:
        NoSessionsError: if a calendar has no session up to ``last``.
    """
    record = "surveillance.sessions" if as_of is None else _AS_OF
    known = {"as_of": as_of, "first": first, "last": last}
    between, before = (f"{query.format(record=record)}".encode() for query in (_BETWEEN, _LAST_BEFORE))
    rows = connection.execute(between, {**known, "calendars": list(calendars)}).fetchall()
    if ended := sorted(set(calendars) - {row[0] for row in rows}):
        rows += connection.execute(before, {**known, "calendars": ended}).fetchall()
    frame = pl.DataFrame(rows, schema=SESSION_SCHEMA, orient="row")
    if missing := sorted(set(calendars) - set(frame["calendar"].unique())):
        raise NoSessionsError(
            f"expected sessions of calendars {missing} up to {last}, found none: materialize the asset trading_sessions"
        )
    return SessionTable.from_frame(frame, calendar=calendars[0])


def last_sessions(connection: psycopg.Connection[Any]) -> dict[str, date]:
    """Return calendar → date of its last recorded session."""
    rows = connection.execute("SELECT calendar, max(session_date) FROM surveillance.sessions GROUP BY calendar")
    return dict(rows.fetchall())
