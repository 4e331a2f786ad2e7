"""Weekly partitions of the live lane's tables: created ahead of time and dropped after their retention.

A row without a partition for its week goes to the default partition, so that a missing partition never fails a commit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, Literal, TypeVar

import psycopg
from psycopg import sql

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError

TableName = Literal["inbox", "ledger", "outbox", "outbox_deliveries"]
PARTITIONED_TABLES: Final[tuple[TableName, ...]] = ("inbox", "ledger", "outbox", "outbox_deliveries")
"""Tables in the order in which transactions use them; locking them in another order could deadlock."""

WEEK: Final = timedelta(days=7)
WEEKS_AHEAD: Final = 2
"""Weeks created in advance: the daily job may fail for two weeks before rows go to a default partition."""

LOCK_MILLISECONDS: Final = 100
"""Lock timeout of a change of partitions; short, because other statements queue behind a waiting lock."""
LOCK_ATTEMPTS: Final = 60
LOCK_PAUSE_SECONDS: Final = 0.5

_PARTITIONS: Final = """
    SELECT parent.relname, child.relname, pg_total_relation_size(child.oid), greatest(child.reltuples, 0)::bigint
    FROM pg_inherits
    JOIN pg_class AS parent ON parent.oid = pg_inherits.inhparent
    JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
    JOIN pg_namespace ON pg_namespace.oid = parent.relnamespace
    WHERE pg_namespace.nspname = 'ops' AND parent.relname = ANY(%s) AND child.relkind = 'r'
    ORDER BY parent.relname, child.relname
"""

_Result = TypeVar("_Result")


class PartitionBusyError(SurveillanceError, code=ErrorCode.CONFLICT):
    """Long transactions blocked a change of a table's partitions."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One week of one table.

    Attributes:
        table: the partitioned table, in the schema ``ops``.
        monday: first day of the week, UTC; None for the default partition.
        size_bytes: size including indexes.
        rows: PostgreSQL's estimate; 0 before the partition was first analysed.
    """

    table: TableName
    monday: date | None
    size_bytes: int
    rows: int

    @property
    def name(self) -> str:
        return f"{self.table}_default" if self.monday is None else partition_name(self.table, self.monday)


def monday_of(day: date) -> date:
    return day - timedelta(days=day.weekday())


def partition_name(table: TableName, monday: date) -> str:
    return f"{table}_{monday:%Y%m%d}"


def partitions(connection: psycopg.Connection[Any]) -> list[Partition]:
    """Return every partition, including the default ones, by table and week."""
    rows = connection.execute(_PARTITIONS, (list(PARTITIONED_TABLES),)).fetchall()
    return [
        Partition(table, _monday(name.removeprefix(f"{table}_")), size_bytes, count)
        for table, name, size_bytes, count in rows
    ]


def missing_weeks(found: Sequence[Partition], today: date) -> list[tuple[TableName, date]]:
    """Return the coming weeks without a partition, by table."""
    existing = {(partition.table, partition.monday) for partition in found}
    coming = [monday_of(today) + WEEK * ahead for ahead in range(1, WEEKS_AHEAD + 1)]
    return [(table, monday) for monday in coming for table in PARTITIONED_TABLES if (table, monday) not in existing]


def stray_weeks(connection: psycopg.Connection[Any], today: date) -> list[tuple[TableName, date]]:
    """Return the weeks, by table, that ended at least a day ago and have rows in a default partition.

    One day later, no commit with a timestamp in such a week can be in progress.
    """
    weeks: list[tuple[TableName, date]] = []
    for table in PARTITIONED_TABLES:
        query = sql.SQL("SELECT DISTINCT date_trunc('week', {})::date FROM {} ORDER BY 1").format(
            sql.Identifier(time_column(table)), sql.Identifier("ops", f"{table}_default")
        )
        weeks.extend((table, monday) for (monday,) in connection.execute(query) if monday + WEEK < today)
    return weeks


def time_column(table: TableName) -> str:
    """Return the column of the commit time, which determines the week of a row."""
    return "created_at" if table in ("outbox", "outbox_deliveries") else "committed_at"


def add_partition(
    connection: psycopg.Connection[Any], table: TableName, day: date, *, clock: Clock = SYSTEM_CLOCK
) -> Partition | None:
    """Create the partition of a day's week and move its rows out of the default partition; return None if it exists.

    Not for the current week: a commit in progress may be about to write to the default partition, which would refuse
    the row afterwards.

    Raises:
        PartitionBusyError: if other transactions keep the table locked.
    """

    def add() -> bool:
        row = connection.execute("SELECT ops.add_partition(%s, %s)", (table, day)).fetchone()
        return row is not None and row[0]

    added = _with_short_lock(connection, table, add, clock)
    return Partition(table, monday_of(day), 0, 0) if added else None


def drop_partitions(
    connection: psycopg.Connection[Any], wanted: Sequence[Partition], *, clock: Clock = SYSTEM_CLOCK
) -> None:
    """Drop partitions, all or none.

    Raises:
        ValueError: if one of them is a default partition.
        PartitionBusyError: if other transactions keep a table locked.
    """
    if any(partition.monday is None for partition in wanted):
        raise ValueError("expected weekly partitions to drop, got a default partition")

    def drop() -> None:
        for partition in sorted(wanted, key=lambda one: PARTITIONED_TABLES.index(one.table)):
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("ops", partition.name)))

    _with_short_lock(connection, ", ".join(partition.name for partition in wanted), drop, clock)


def _with_short_lock(
    connection: psycopg.Connection[Any], what: str, change: Callable[[], _Result], clock: Clock
) -> _Result:
    """Apply a change in one transaction with a short lock timeout, so that the live lane is not delayed."""
    if not connection.autocommit:
        raise ValueError("expected a connection in autocommit mode, so that the locks end with the change")
    for _ in range(LOCK_ATTEMPTS):
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'".encode())
                return change()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            clock.sleep(LOCK_PAUSE_SECONDS)
    raise PartitionBusyError(
        f"expected to change the partitions of {what} within {LOCK_ATTEMPTS} attempts, but other transactions kept "
        "them locked: end long queries on ops.* (pg_stat_activity), then run retention_job again"
    )


def _monday(suffix: str) -> date | None:
    return None if suffix == "default" else date.fromisoformat(suffix)
