"""Weekly partitions of the live lane's books: made ahead of time, dropped whole once nothing needs them.

A row whose week has no partition goes to the table's default partition, so a commit never fails for want of one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, Literal, TypeVar

import psycopg
from psycopg import sql

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError

Book = Literal["inbox", "ledger", "outbox"]
BOOKS: Final[tuple[Book, ...]] = ("inbox", "ledger", "outbox")
"""In the order in which a commit writes them: whoever locks several in another order waits for it for ever."""

WEEK: Final = timedelta(days=7)
WEEKS_AHEAD: Final = 2
"""Made ahead of the current week: the daily job may fail for a fortnight before a row goes to a default partition."""

LOCK_MILLISECONDS: Final = 100
"""A change of the set of partitions stops the table while it waits for its lock: so long, then it steps back."""
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
    """One week of one book.

    Attributes:
        book: the partitioned table, in the schema ``ops``.
        monday: first day of the week, UTC; None for the default partition.
        size_bytes: with indexes.
        rows: as PostgreSQL estimates it; 0 before the partition was first analysed.
    """

    book: Book
    monday: date | None
    size_bytes: int
    rows: int

    @property
    def name(self) -> str:
        return f"{self.book}_default" if self.monday is None else partition_name(self.book, self.monday)


def monday_of(day: date) -> date:
    return day - timedelta(days=day.weekday())


def partition_name(book: Book, monday: date) -> str:
    return f"{book}_{monday:%Y%m%d}"


def partitions(connection: psycopg.Connection[Any]) -> list[Partition]:
    """Return every partition of the books, the default ones included, by book and week."""
    rows = connection.execute(_PARTITIONS, (list(BOOKS),)).fetchall()
    return [
        Partition(book, _monday(name.removeprefix(f"{book}_")), size_bytes, count)
        for book, name, size_bytes, count in rows
    ]


def missing_weeks(found: Sequence[Partition], today: date) -> list[tuple[Book, date]]:
    """Return the coming weeks, by book, that should have a partition and have none."""
    held = {(partition.book, partition.monday) for partition in found}
    coming = [monday_of(today) + WEEK * ahead for ahead in range(1, WEEKS_AHEAD + 1)]
    return [(book, monday) for monday in coming for book in BOOKS if (book, monday) not in held]


def stray_weeks(connection: psycopg.Connection[Any], today: date) -> list[tuple[Book, date]]:
    """Return the weeks, by book, that are over for a day at least and have rows in a default partition.

    For a day: no commit that was stamped in such a week can be under way.
    """
    weeks: list[tuple[Book, date]] = []
    for book in BOOKS:
        query = sql.SQL("SELECT DISTINCT date_trunc('week', {})::date FROM {} ORDER BY 1").format(
            sql.Identifier(time_column(book)), sql.Identifier("ops", f"{book}_default")
        )
        weeks.extend((book, monday) for (monday,) in connection.execute(query) if monday + WEEK < today)
    return weeks


def time_column(book: Book) -> str:
    """Return the column that says in which week a row belongs: when its transaction was committed."""
    return "created_at" if book == "outbox" else "committed_at"


def add_partition(
    connection: psycopg.Connection[Any], book: Book, day: date, *, clock: Clock = SYSTEM_CLOCK
) -> Partition | None:
    """Give a book the partition of a day's week, with the rows that the default one holds of it; None if it has it.

    Only for weeks to come and weeks that are over: a commit of the current week may be on its way to the default
    partition, which would no longer be its place, and be refused.

    Raises:
        PartitionBusyError: if other transactions hold on to the table.
    """

    def add() -> bool:
        row = connection.execute("SELECT ops.add_partition(%s, %s)", (book, day)).fetchone()
        return row is not None and row[0]

    added = _briefly(connection, book, add, clock)
    return Partition(book, monday_of(day), 0, 0) if added else None


def drop_partitions(
    connection: psycopg.Connection[Any], wanted: Sequence[Partition], *, clock: Clock = SYSTEM_CLOCK
) -> None:
    """Drop partitions, all or none.

    Raises:
        ValueError: if one of them is a default partition.
        PartitionBusyError: if other transactions hold on to a table.
    """
    if any(partition.monday is None for partition in wanted):
        raise ValueError("expected partitions of weeks to drop, got a default partition: its rows move first")

    def drop() -> None:
        for partition in sorted(wanted, key=lambda one: BOOKS.index(one.book)):
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("ops", partition.name)))

    _briefly(connection, ", ".join(partition.name for partition in wanted), drop, clock)


def _briefly(connection: psycopg.Connection[Any], what: str, change: Callable[[], _Result], clock: Clock) -> _Result:
    """Make a change in one transaction that waits for no lock long enough for the live lane to notice."""
    if not connection.autocommit:
        raise ValueError("expected a connection in autocommit mode: locks of a change must end with it")
    for _ in range(LOCK_ATTEMPTS):
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{LOCK_MILLISECONDS}ms'".encode())
                return change()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            clock.sleep(LOCK_PAUSE_SECONDS)
    raise PartitionBusyError(
        f"expected to change the partitions of {what} within {LOCK_ATTEMPTS} attempts, other transactions held them: "
        "end long queries on ops.* (pg_stat_activity), then run retention_job again"
    )


def _monday(suffix: str) -> date | None:
    return None if suffix == "default" else date.fromisoformat(suffix)
