"""The engine that serves a queue: drain runs and canary runs build it with exactly the same configuration."""

from collections.abc import Mapping
from datetime import date

import psycopg

from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.instruments import load_instruments
from surveillance_pipelines.stores.sessions import load_sessions


def serving_engine(
    connection: psycopg.Connection,
    settings: Settings,
    predictor: Predictor,
    *,
    run_id: str | None,
    content_based_dedup: bool = False,
) -> Engine:
    """Return an engine for the instruments and sessions in the database; nothing is written.

    ``SYMBOLS`` are served without an instrument row; disabled instruments are not served.

    Args:
        connection: connection to PostgreSQL.
        settings: the platform's settings.
        predictor: the models.
        run_id: id in every output row.
        content_based_dedup: whether the queue derives deduplication ids from bodies.
    """
    instruments = load_instruments(connection)
    calendar_of = {row.symbol: row.calendar for row in instruments}
    disabled = {row.symbol for row in instruments if not row.active}
    config = engine_config(settings, predictor, run_id=run_id, content_based_dedup=content_based_dedup)
    sessions = load_calendars(connection, settings, calendar_of)
    return Engine(config, predictor, sessions, {*calendar_of, *settings.symbols} - disabled)


def load_calendars(connection: psycopg.Connection, settings: Settings, calendar_of: Mapping[str, str]) -> SessionTable:
    """Return all recorded sessions of the default calendar and of the instruments' calendars."""
    others = sorted(set(calendar_of.values()) - {settings.default_calendar})
    sessions = load_sessions(connection, [settings.default_calendar, *others], date.min, date.max)
    return sessions.with_calendars(calendar_of)
