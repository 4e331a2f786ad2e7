"""Storage of batch scores in the live lane's tables; existing rows are kept unchanged.

Rows are written by COPY, in a fifth of the time of an INSERT from arrays (the live lane's way for its few rows). COPY
fails if a row exists; then all rows are copied to a temporary table, and only new rows are inserted from there.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

import polars as pl
import psycopg

from surveillance_pipelines.batch.scoring import DayScores
from surveillance_pipelines.contracts.outputs import OutputRow
from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.stores import tables
from surveillance_pipelines.stores.tables import Table

_LIVE_ONLY: Final = ("t_received", "t_computed", "t_committed")
_NULL: Final = "\\N"
_INSTANT: Final = "%Y-%m-%d %H:%M:%S%.6f+00"


@dataclass(frozen=True, slots=True)
class StoredCounts:
    """Numbers of new rows. Rows that an earlier run or the live lane had written are not counted."""

    anomalies: int = 0
    signals: int = 0
    predictions: int = 0
    incidents: int = 0

    def __add__(self, other: "StoredCounts") -> "StoredCounts":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return StoredCounts(*(own + added for own, added in pairs))


def store_scores(connection: psycopg.Connection[Any], scored: DayScores) -> StoredCounts:
    """Write new anomalies, incidents, signals and predictions in one transaction."""
    with connection.transaction():
        return StoredCounts(
            _store_rows(connection, tables.ANOMALIES, scored.anomalies),
            _store_rows(connection, tables.SIGNALS, scored.signals),
            _store_frame(connection, tables.PREDICTIONS, scored.scores, scored.model_ids),
            _store_rows(connection, tables.INCIDENTS, scored.incidents),
        )


def _store_rows(connection: psycopg.Connection[Any], table: Table, rows: list[Any]) -> int:
    def write(copy: psycopg.Copy) -> None:
        row: OutputRow
        for row in rows:
            copy.write_row(tables.copied_values(row, table.columns))

    return _store(connection, table, "FORMAT text", write) if rows else 0


def _store_frame(
    connection: psycopg.Connection[Any], table: Table, frame: pl.DataFrame, model_ids: Sequence[str]
) -> int:
    """Write a frame as CSV, which polars serialises without creating Python objects."""
    missing = [pl.lit(None).alias(name) for name in _LIVE_ONLY]
    provenance = [pl.lit(canonical_json(list(model_ids))).alias("model_ids"), pl.lit("[]").alias("excluded_models")]
    rows = frame.with_columns(*missing, *provenance).select(table.columns)

    def write(copy: psycopg.Copy) -> None:
        copy.write(rows.write_csv(include_header=False, null_value=_NULL, datetime_format=_INSTANT))

    return _store(connection, table, f"FORMAT csv, NULL '{_NULL}'", write) if len(rows) else 0


def _store(
    connection: psycopg.Connection[Any], table: Table, options: str, write: Callable[[psycopg.Copy], None]
) -> int:
    """Copy rows into a table; if one exists, roll back and insert only the new rows."""
    try:
        with connection.transaction():  # a savepoint, so that rows written to other tables are kept
            return _copy(connection, table.columns, options, write, into=table.name)
    except psycopg.errors.UniqueViolation:
        return _merge(connection, table, options, write)


def _merge(
    connection: psycopg.Connection[Any], table: Table, options: str, write: Callable[[psycopg.Copy], None]
) -> int:
    staged = f"staged_{table.name.partition('.')[2]}"
    for statement in (
        f"CREATE TEMP TABLE IF NOT EXISTS {staged} (LIKE {table.name}) ON COMMIT DELETE ROWS",
        f"TRUNCATE {staged}",
    ):
        connection.execute(statement.encode())
    _copy(connection, table.columns, options, write, into=staged)
    columns = ", ".join(table.columns)
    insert = f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {staged} ON CONFLICT {table.conflict}"  # noqa: S608 (constant names)
    return connection.execute(insert.encode()).rowcount


def _copy(
    connection: psycopg.Connection[Any],
    columns: Sequence[str],
    options: str,
    write: Callable[[psycopg.Copy], None],
    *,
    into: str,
) -> int:
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY {into} ({', '.join(columns)}) FROM STDIN ({options})".encode()) as copy:
            write(copy)
        return cursor.rowcount
