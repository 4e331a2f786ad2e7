"""How long the books of the live lane are kept, and what must have happened before a week of them is dropped."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Protocol

import polars as pl
import psycopg
from psycopg import sql

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, day_start_us, to_datetime
from surveillance_pipelines.contracts.frames import TICK_SCHEMA
from surveillance_pipelines.stores.partitions import (
    WEEK,
    Partition,
    add_partition,
    drop_partitions,
    missing_weeks,
    partitions,
    stray_weeks,
)

DEAD_LETTER_DAYS: Final = 366
"""Dead letters are few, and a producer's fault may be noticed at the year's end."""

_ACCEPTED: Final = """
    FROM {inbox} AS inbox JOIN {ledger} AS ledger USING (message_id) WHERE ledger.outcome IN ('scored', 'late')
"""
_ACCEPTED_DAYS: Final = f"SELECT DISTINCT (inbox.event_time AT TIME ZONE 'UTC')::date {_ACCEPTED} ORDER BY 1"
_ACCEPTED_IDS: Final = f"""
    SELECT message_id {_ACCEPTED}
    AND inbox.event_time >= %(day)s::date AND inbox.event_time < %(day)s::date + 1
"""


class TickReader(Protocol):
    """The lake, as far as retention reads it."""

    def read(
        self, table: str, *, days: Collection[date], columns: Sequence[str], schema: pl.Schema
    ) -> pl.DataFrame: ...


@dataclass(frozen=True, slots=True)
class Retained:
    """What one run of retention did.

    Attributes:
        added: partitions made, for weeks to come or out of stray rows.
        dropped: partitions dropped, with the size they had.
        kept: name of a partition that is old enough → why it was not dropped.
        dead_letters: how many were deleted.
        clock_rows: how many were deleted, with the messages between which they stood.
        now: every partition that there is afterwards.
    """

    added: tuple[Partition, ...]
    dropped: tuple[Partition, ...]
    kept: dict[str, str]
    dead_letters: int
    clock_rows: int
    now: tuple[Partition, ...]


def retain(
    connection: psycopg.Connection[Any],
    lake: TickReader,
    *,
    today: date,
    retention_days: int,
    clock: Clock = SYSTEM_CLOCK,
) -> Retained:
    """Make the partitions of the coming weeks, and drop the weeks that ended ``retention_days`` ago or earlier.

    A week of the outbox is kept while a message of it waits for its publication; a week of inbox and ledger while an
    accepted message of it is not in the lake's ``ticks``. These two go together, so that they name the same messages.

    Args:
        connection: in autocommit mode.
        lake: where accepted messages end.
        today: UTC.
        retention_days: ``LEDGER_RETENTION_DAYS``.
        clock: waits between two tries of a lock.

    Raises:
        PartitionBusyError: if other transactions hold on to a table; what was done until then is done.
    """
    wanted = [*missing_weeks(partitions(connection), today), *stray_weeks(connection, today)]
    added = [add_partition(connection, book, monday, clock=clock) for book, monday in wanted]
    dropped: list[Partition] = []
    kept: dict[str, str] = {}
    for together, obstacle in _droppable(connection, lake, today - timedelta(days=retention_days)):
        if obstacle is None:
            drop_partitions(connection, together, clock=clock)
            dropped += together
        else:
            kept |= {partition.name: obstacle for partition in together}
    oldest = to_datetime(day_start_us(today)) - timedelta(days=max(DEAD_LETTER_DAYS, retention_days))
    left = partitions(connection)
    return Retained(
        added=tuple(partition for partition in added if partition is not None),
        dropped=tuple(dropped),
        kept=kept,
        dead_letters=_forget_dead_letters(connection, oldest),
        clock_rows=_forget_clock_rows(connection, left),
        now=tuple(left),
    )


def _droppable(
    connection: psycopg.Connection[Any], lake: TickReader, until: date
) -> Iterator[tuple[list[Partition], str | None]]:
    """Yield what is dropped together, of the weeks that ended by a day, with the reason not to if there is one."""
    weeks: dict[date, dict[str, Partition]] = {}
    for partition in partitions(connection):
        if partition.monday is not None and partition.monday + WEEK <= until:
            weeks.setdefault(partition.monday, {})[partition.book] = partition
    for week in weeks.values():
        if "outbox" in week:
            outbox = week.pop("outbox")
            yield [outbox], _unpublished(connection, outbox)
        if week:
            yield list(week.values()), _not_in_lake(connection, lake, week.get("inbox"), week.get("ledger"))


def _unpublished(connection: psycopg.Connection[Any], outbox: Partition) -> str | None:
    query = sql.SQL("SELECT count(*) FROM {} WHERE published_at IS NULL").format(sql.Identifier("ops", outbox.name))
    (count,) = connection.execute(query).fetchone() or (0,)
    return None if count == 0 else f"{count:,} messages wait for their publication: start a drain run of their queue"


def _not_in_lake(
    connection: psycopg.Connection[Any], lake: TickReader, inbox: Partition | None, ledger: Partition | None
) -> str | None:
    """Say which accepted messages of a week the lake lacks, None if it has all; a day of event time at a time."""
    if inbox is None or ledger is None:
        return "it has a partition in one of inbox and ledger only, although both are written together: look into both"
    names = {"inbox": sql.Identifier("ops", inbox.name), "ledger": sql.Identifier("ops", ledger.name)}
    missing: dict[date, int] = {}
    for (day,) in connection.execute(sql.SQL(_ACCEPTED_DAYS).format(**names)).fetchall():
        ids = [id_ for (id_,) in connection.execute(sql.SQL(_ACCEPTED_IDS).format(**names), {"day": day})]
        held = lake.read("ticks", days=[day], columns=["source_message_id"], schema=TICK_SCHEMA)
        count = len(set(ids).difference(held["source_message_id"]))
        if count:
            missing[day] = count
    if not missing:
        return None
    named = ", ".join(f"{day} ({count:,})" for day, count in missing.items())
    return f"the lake lacks accepted messages of {named}: `surveillance backfill` those days"


def _forget_dead_letters(connection: psycopg.Connection[Any], before: datetime) -> int:
    return connection.execute("DELETE FROM ops.dead_letters WHERE received_at < %s", (before,)).rowcount


def _forget_clock_rows(connection: psycopg.Connection[Any], left: Sequence[Partition]) -> int:
    """Delete clock readings from before the oldest messages that are kept; without any, none is deleted."""
    weeks = [partition.monday for partition in left if partition.book == "inbox" and partition.monday is not None]
    before = to_datetime(day_start_us(min(weeks))) if weeks else None
    return connection.execute("DELETE FROM ops.clock_rows WHERE recorded_at < %s", (before,)).rowcount
