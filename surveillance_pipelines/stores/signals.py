"""Queries of the stored signals."""

from datetime import date
from typing import Any, Final

import psycopg

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.engine.scoring_rows import RowConfig

_LAST_SIGNALS: Final = """
    SELECT symbol, max(bar_start) FROM surveillance.signals
    WHERE bar_start < %s AND (bundle_hash, tenant, strategy) = (%s, %s, %s) GROUP BY symbol
"""


def last_signals(connection: psycopg.Connection[Any], before: date, config: RowConfig) -> dict[str, int]:
    """Return symbol → start of the bar of its last signal before a UTC day, in microseconds since the epoch.

    Only signals of the same bundle, tenant and strategy count: each has a cooldown of its own.
    """
    rows = connection.execute(_LAST_SIGNALS, (before, config.bundle_hash, config.tenant, config.strategy))
    return {symbol: to_us(bar_start) for symbol, bar_start in rows}
