"""Trading sessions in PostgreSQL, so that the live lane needs no calendar library."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import polars as pl
import psycopg

from surveillance_pipelines.contracts.sessions import SESSION_SCHEMA, SessionTable

_SAVE = """
    INSERT INTO surveillance.sessions (calendar, session_date, opens_at, closes_at) VALUES (%s, %s, %s, %s)
    ON CONFLICT (calendar, session_date) DO UPDATE SET opens_at = excluded.opens_at, closes_at = excluded.closes_at
    WHERE (sessions.opens_at, sessions.closes_at) IS DISTINCT FROM (excluded.opens_at, excluded.closes_at)
"""


_BETWEEN = """
    SELECT calendar, session_date, opens_at, closes_at FROM surveillance.sessions
    WHERE calendar = ANY(%s) AND session_date BETWEEN %s AND %s
"""
_LAST_BEFORE = """
    SELECT DISTINCT ON (calendar) calendar, session_date, opens_at, closes_at FROM surveillance.sessions
    WHERE calendar = ANY(%s) AND session_date < %s ORDER BY calendar, session_date DESC
"""


def save_sessions(connection: psycopg.Connection[Any], rows: pl.DataFrame) -> None:
    """Write sessions of ``SESSION_SCHEMA``; one that an exchange has moved since replaces its old hours."""
    with connection.cursor() as cursor:
        cursor.executemany(_SAVE, rows.select(SESSION_SCHEMA.names()).rows())


def load_sessions(
    connection: psycopg.Connection[Any], calendars: Sequence[str], first: date, last: date
) -> SessionTable:
    """Return the sessions of some calendars between two dates, both included.

    The first calendar answers for symbols that no mapping names (see ``SessionTable.with_calendars``). A calendar whose
    record ends before ``first`` gives its last session, so that it is closed and the others still serve.

    Raises:
        ValueError: if a calendar has no session up to ``last``: materialize ``trading_sessions``.
    """
    rows = connection.execute(_BETWEEN, (list(calendars), first, last)).fetchall()
    if ended := sorted(set(calendars) - {row[0] for row in rows}):
        rows += connection.execute(_LAST_BEFORE, (ended, first)).fetchall()
    frame = pl.DataFrame(rows, schema=SESSION_SCHEMA, orient="row")
    if missing := sorted(set(calendars) - set(frame["calendar"].unique())):
        raise ValueError(
            f"expected sessions of calendars {missing} up to {last}, found none: materialize the asset trading_sessions"
        )
    return SessionTable.from_frame(frame, calendar=calendars[0])


def last_sessions(connection: psycopg.Connection[Any]) -> dict[str, date]:
    """Return calendar → date of its last session on record."""
    rows = connection.execute("SELECT calendar, max(session_date) FROM surveillance.sessions GROUP BY calendar")
    return dict(rows.fetchall())
