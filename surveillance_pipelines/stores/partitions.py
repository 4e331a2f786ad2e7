"""Weekly partitions of the live lane's tables: created ahead of time, dropped whole once nothing needs them.

A row whose week has no partition goes to the table's default partition, so a missing partition never fails a commit.
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
"""In the order in which transactions use them: locking several of them in another order could deadlock."""

WEEK: Final = timedelta(days=7)
WEEKS_AHEAD: Final = 2
"""Weeks created in advance: the daily job may fail for two weeks before rows go to a default partition."""

LOCK_MILLISECONDS: Final = 100
"""Lock timeout of a change of partitions. Other statements queue behind it while it waits, so it gives up early."""
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
    """Long transactions kept a table's partitions from being changed."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One week of one table.

    Attributes:
        table: the partitioned table, in the schema ``ops``.
        monday: first day of the week, UTC; None for the default partition.
        size_bytes: with indexes.
        rows: as PostgreSQL estimates it; 0 before the partition was first analysed.
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
    """Return the coming weeks, by table, that should have a partition and have none."""
    existing = {(partition.table, partition.monday) for partition in found}
    coming = [monday_of(today) + WEEK * ahead for ahead in range(1, WEEKS_AHEAD + 1)]
    return [(table, monday) for monday in coming for table in PARTITIONED_TABLES if (table, monday) not in existing]


def stray_weeks(connection: psycopg.Connection[Any], today: date) -> list[tuple[TableName, date]]:
    """Return the weeks, by table, that ended at least a day ago and have rows in a default partition.

    After a day, no commit that was stamped in such a week can still be in progress.
    """
    weeks: list[tuple[TableName, date]] = []
    for table in PARTITIONED_TABLES:
        query = sql.SQL("SELECT DISTINCT date_trunc('week', {})::date FROM {} ORDER BY 1").format(
            sql.Identifier(time_column(table)), sql.Identifier("ops", f"{table}_default")
        )
        weeks.extend((table, monday) for (monday,) in connection.execute(query) if monday + WEEK < today)
    return weeks


def time_column(table: TableName) -> str:
    """Return the column that decides the week of a row: when its message or effect was committed."""
    return "created_at" if table in ("outbox", "outbox_deliveries") else "committed_at"


def add_partition(
    connection: psycopg.Connection[Any], table: TableName, day: date, *, clock: Clock = SYSTEM_CLOCK
) -> Partition | None:
    """Create the partition of a day's week and move rows of it out of the default one; return None if it exists.

    Only for coming weeks and past ones: a commit of the current week may be about to write to the default partition,
    which would then refuse its row.

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
        raise ValueError("expected partitions of weeks to drop, got a default partition: its rows move first")

    def drop() -> None:
        for partition in sorted(wanted, key=lambda one: PARTITIONED_TABLES.index(one.table)):
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("ops", partition.name)))

    _with_short_lock(connection, ", ".join(partition.name for partition in wanted), drop, clock)


def _with_short_lock(
    connection: psycopg.Connection[Any], what: str, change: Callable[[], _Result], clock: Clock
) -> _Result:
    """Make a change in one transaction whose lock timeout is too short for the live lane to notice."""
    if not connection.autocommit:
        raise ValueError("expected a connection in autocommit mode: the locks of a change must end with it")
    for _ in range(LOCK_ATTEMPTS):
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'".encode())
                return change()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            clock.sleep(LOCK_PAUSE_SECONDS)
    raise PartitionBusyError(
        f"expected to change the partitions of {what} within {LOCK_ATTEMPTS} attempts, other transactions kept "
        "them locked: end long queries on ops.* (pg_stat_activity), then run retention_job again"
    )


def _monday(suffix: str) -> date | None:
    return None if suffix == "default" else date.fromisoformat(suffix)
