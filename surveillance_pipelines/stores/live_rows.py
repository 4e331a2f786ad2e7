"""The live lane's accepted ticks and closed bars in PostgreSQL, as frames for the lake."""

from datetime import date, timedelta
from typing import Any, Final

import polars as pl
import psycopg

from surveillance_pipelines.clock import DAY_US, to_us
from surveillance_pipelines.contracts.errors import IntegrityError
from surveillance_pipelines.contracts.frames import BAR_SCHEMA, TICK_SCHEMA, UTC_MICROSECONDS
from surveillance_pipelines.contracts.market import Refusal
from surveillance_pipelines.market.messages import decode_tick

_TICKS: Final = """
    SELECT inbox.message_id, inbox.body, inbox.received_at, ledger.outcome
    FROM ops.inbox JOIN ops.ledger USING (message_id)
    WHERE ledger.outcome IN ('scored', 'late') AND inbox.event_time >= %s AND inbox.event_time < %s
    ORDER BY inbox.position
"""

_COUNT_TICKS: Final = """
    SELECT count(*) FROM ops.inbox JOIN ops.ledger USING (message_id)
    WHERE ledger.outcome IN ('scored', 'late') AND inbox.event_time >= %s AND inbox.event_time < %s
"""

_BAR_COLUMNS: Final = (
    "symbol", "bar_start", "open", "high", "low", "close", "volume", "trades", "source", "revision", "bar_status",
    "event_time", "knowledge_time", "source_message_id", "market_return", "market_peers",
    "market_centre",
)  # fmt: skip
_BARS: Final = f"""
    SELECT {", ".join(_BAR_COLUMNS)} FROM ops.live_bars
    WHERE bar_start >= %s AND bar_start < %s ORDER BY bar_start, symbol, revision
"""  # noqa: S608 (constant names)


def read_ticks(connection: psycopg.Connection[Any], first: date, last: date) -> pl.DataFrame:
    """Return the accepted ticks with an event time in a range of UTC days, both included, in the order of receipt.

    Returns:
        ``TICK_SCHEMA``.

    Raises:
        IntegrityError: if the current decoder refuses an accepted body.
    """
    rows = [_tick_row(*row) for row in connection.execute(_TICKS, _bounds(first, last))]
    raw = {name: pl.Int64 if dtype == UTC_MICROSECONDS else dtype for name, dtype in TICK_SCHEMA.items()}
    return pl.DataFrame(rows, schema={**raw, "date": pl.Int32}, orient="row").cast(TICK_SCHEMA)


def count_ticks(connection: psycopg.Connection[Any], day: date) -> int:
    """Return the number of accepted ticks of a UTC day in PostgreSQL."""
    return (connection.execute(_COUNT_TICKS, _bounds(day, day)).fetchone() or (0,))[0]


def with_dropped(ticks: pl.DataFrame, landed: pl.DataFrame) -> pl.DataFrame:
    """Return the ticks of PostgreSQL and those ticks of the lake that retention has dropped from PostgreSQL.

    Args:
        ticks: ``TICK_SCHEMA``, ticks of a range of days in PostgreSQL.
        landed: ticks of the same days in the lake.
    """
    dropped = landed.join(ticks, on="source_message_id", how="anti")
    return pl.concat([dropped.select(ticks.columns), ticks])


def read_live_bars(connection: psycopg.Connection[Any], first: date, last: date) -> pl.DataFrame:
    """Return the bars closed or revised by the live lane in a range of UTC days of their start, both included.

    Returns:
        ``BAR_SCHEMA``; the market columns have the values used when the bar was served.
    """
    rows = connection.execute(_BARS, _bounds(first, last)).fetchall()
    frame = pl.DataFrame(rows, schema={name: BAR_SCHEMA[name] for name in _BAR_COLUMNS}, orient="row")
    constants = {"timeframe": "1m", "adjustment": "none", "batch_id": "live"}
    derived = {name: pl.lit(value) for name, value in constants.items()}
    dated = frame.with_columns(pl.col("bar_start").dt.date().alias("date"), **derived)
    return dated.select(BAR_SCHEMA.names()).cast(BAR_SCHEMA)


def _tick_row(message_id: str, body: str, received_at: Any, outcome: str) -> tuple[Any, ...]:
    received_us = to_us(received_at)
    tick = decode_tick(body, sent_at=None)
    if isinstance(tick, Refusal):
        raise IntegrityError(f"expected message {message_id} to decode as it did when it was scored, got: {tick}")
    day = tick.event_time // DAY_US
    return (day, tick.symbol, tick.event_time, tick.price, tick.volume, tick.change, tick.change_percent, "sqs",
            message_id, received_us, outcome)  # fmt: skip


def _bounds(first: date, last: date) -> tuple[date, date]:
    return first, last + timedelta(days=1)
