"""Batch scores into the tables of the live lane: rows that are there already stay as they are."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import polars as pl
import psycopg

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.serving import tables
from surveillance_pipelines.serving.batch import DayScores
from surveillance_pipelines.serving.tables import Table

_ROWS_AT_ONCE: Final = 20_000

_LAST_SIGNALS: Final = """
    SELECT symbol, max(bar_start) FROM surveillance.signals WHERE bar_start < %s AND bundle_hash = %s GROUP BY symbol
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """How many rows were new; the others had been written before, by an earlier run or by the live lane."""

    anomalies: int
    signals: int
    predictions: int


def last_signals(connection: psycopg.Connection[Any], before: date, bundle_hash: str) -> dict[str, int]:
    """Return symbol → start of the bar of its last signal before a UTC day, in microseconds since the epoch."""
    rows = connection.execute(_LAST_SIGNALS, (before, bundle_hash))
    return {symbol: to_us(bar_start) for symbol, bar_start in rows}


def store_scores(connection: psycopg.Connection[Any], scored: DayScores) -> Stored:
    """Write anomalies, signals and predictions that are not there yet; the caller commits."""
    anomalies, signals = (
        _insert(connection, table, [tables.output_values(row, table.columns) for row in rows])
        for table, rows in ((tables.ANOMALIES, scored.anomalies), (tables.SIGNALS, scored.signals))
    )
    live_only = {name: pl.lit(None) for name in ("t_received", "t_computed", "t_committed")}
    predictions = scored.scores.with_columns(**live_only).select(tables.PREDICTIONS.columns)
    return Stored(anomalies, signals, _insert(connection, tables.PREDICTIONS, predictions.rows()))


def _insert(connection: psycopg.Connection[Any], table: Table, rows: list[Any]) -> int:
    pieces = [rows[start : start + _ROWS_AT_ONCE] for start in range(0, len(rows), _ROWS_AT_ONCE)]
    return sum(connection.execute(table.insert, table.parameters(piece)).rowcount for piece in pieces)
