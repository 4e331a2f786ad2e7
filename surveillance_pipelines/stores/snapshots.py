"""One consistent view of a database for several readers, and the number of rows of each table in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from surveillance_pipelines.stores.database import connect

_TABLES: Final = """
    SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
    ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot while its transaction is open.

    Attributes:
        name: name by which another session can use it.
        rows: number of rows per table, ``schema.name``; partitions count for their table.
    """

    name: str
    rows: dict[str, int]


@contextmanager
def snapshot(database_url: str) -> Iterator[Snapshot]:
    """Export a snapshot of a database for a ``with`` block. Transactions that commit later are not in it."""
    with connect(database_url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        yield Snapshot("" if row is None else row[0], _count(connection))
        connection.rollback()


def row_counts(database_url: str) -> dict[str, int]:
    """Return the number of rows of each table, ``schema.name``."""
    with connect(database_url) as connection:
        return _count(connection)


def _count(connection: psycopg.Connection[Any]) -> dict[str, int]:
    counts = {}
    for schema, name in connection.execute(_TABLES).fetchall():
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))).fetchone()
        counts[f"{schema}.{name}"] = 0 if row is None else int(row[0])
    return counts
