"""Retention of the live lane's tables: weekly partitions are dropped after their retention and further conditions."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Protocol

import polars as pl
import psycopg
from psycopg import sql

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, day_start_us, to_datetime
from surveillance_pipelines.contracts.frames import TICK_SCHEMA
from surveillance_pipelines.stores.outbox import SQS
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
"""Dead letters are few; a fault of a producer may be noticed only at the end of a year."""

_ACCEPTED: Final = """
    FROM {inbox} AS inbox JOIN {ledger} AS ledger USING (message_id) WHERE ledger.outcome IN ('scored', 'late')
"""
_ACCEPTED_DAYS: Final = f"SELECT DISTINCT (inbox.event_time AT TIME ZONE 'UTC')::date {_ACCEPTED} ORDER BY 1"
_ACCEPTED_IDS: Final = f"""
    SELECT message_id {_ACCEPTED}
    AND inbox.event_time >= %(day)s::date AND inbox.event_time < %(day)s::date + 1
"""

_UNDELIVERED: Final = """
    SELECT count(*) FROM {outbox} AS waiting
    LEFT JOIN ops.delivery_cursors AS cursors
           ON cursors.queue_url = waiting.queue_url AND cursors.channel = %(channel)s
    WHERE waiting.position > coalesce(cursors.position, 0)
      AND NOT EXISTS (SELECT FROM ops.outbox_deliveries AS delivered
                      WHERE delivered.channel = %(channel)s AND delivered.position = waiting.position)
"""


class TickReader(Protocol):
    """The part of the lake that retention reads."""

    def read(
        self, table: str, *, days: Collection[date], columns: Sequence[str], schema: pl.Schema
    ) -> pl.DataFrame: ...


@dataclass(frozen=True, slots=True)
class Retained:
    """Result of one retention run.

    Attributes:
        added: created partitions, for coming weeks or for rows of a default partition.
        dropped: dropped partitions with their size before.
        kept: name of a partition past its retention → reason why it was not dropped.
        dead_letters: number of deleted dead letters.
        clock_rows: number of deleted clock readings.
        now: all remaining partitions.
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
    channels: Sequence[str] = (SQS,),
    clock: Clock = SYSTEM_CLOCK,
) -> Retained:
    """Create the partitions of the coming weeks, and drop the weeks that ended ``retention_days`` ago or earlier.

    A week of the outbox and its deliveries is kept while one of its messages waits for a configured channel. A week of
    inbox and ledger is kept while an accepted message is missing from the lake table ``ticks``. Inbox and ledger are
    dropped together, so that both contain the same messages.

    Args:
        connection: connection in autocommit mode.
        lake: lake with the accepted messages.
        today: current UTC day.
        retention_days: ``LEDGER_RETENTION_DAYS``.
        channels: ``OUTPUT_CHANNELS``.
        clock: clock for waits between attempts to lock a table.

    Raises:
        PartitionBusyError: if other transactions keep a table locked; weeks dropped before stay dropped.
    """
    wanted = [*missing_weeks(partitions(connection), today), *stray_weeks(connection, today)]
    added = [add_partition(connection, table, monday, clock=clock) for table, monday in wanted]
    dropped: list[Partition] = []
    kept: dict[str, str] = {}
    for together, obstacle in _droppable(connection, lake, today - timedelta(days=retention_days), channels):
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
        dead_letters=_delete_dead_letters(connection, oldest),
        clock_rows=_delete_clock_rows(connection, left),
        now=tuple(left),
    )


def _droppable(
    connection: psycopg.Connection[Any], lake: TickReader, until: date, channels: Sequence[str]
) -> Iterator[tuple[list[Partition], str | None]]:
    """Yield groups of partitions of weeks that ended by ``until``, each with the reason to keep it, if any."""
    weeks: dict[date, dict[str, Partition]] = {}
    for partition in partitions(connection):
        if partition.monday is not None and partition.monday + WEEK <= until:
            weeks.setdefault(partition.monday, {})[partition.table] = partition
    for week in weeks.values():
        outputs = [week.pop(table) for table in ("outbox", "outbox_deliveries") if table in week]
        if outputs:
            yield outputs, _undelivered(connection, outputs[0], channels)
        if week:
            yield list(week.values()), _not_in_lake(connection, lake, week.get("inbox"), week.get("ledger"))


def _undelivered(connection: psycopg.Connection[Any], outbox: Partition, channels: Sequence[str]) -> str | None:
    """Describe the undelivered messages of a week of the outbox; None if all are delivered."""
    if outbox.table != "outbox":  # deliveries of a week without an outbox partition
        return None
    query = sql.SQL(_UNDELIVERED).format(outbox=sql.Identifier("ops", outbox.name))
    counts = {channel: (connection.execute(query, {"channel": channel}).fetchone() or (0,))[0] for channel in channels}
    reasons = [
        f"{count:,} messages wait for publication: start a drain run of their queue"
        if channel == SQS
        else f"{count:,} messages wait for the channel {channel}: start delivery_job for it, or remove it from "
        "OUTPUT_CHANNELS"
        for channel, count in counts.items()
        if count
    ]
    return "; ".join(reasons) or None


def _not_in_lake(
    connection: psycopg.Connection[Any], lake: TickReader, inbox: Partition | None, ledger: Partition | None
) -> str | None:
    """Describe the accepted messages of a week that are missing from the lake; None if there are none."""
    if inbox is None or ledger is None:
        return (
            "only one of inbox and ledger has a partition of this week, although each commit writes both: inspect both"
        )
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


def _delete_dead_letters(connection: psycopg.Connection[Any], before: datetime) -> int:
    return connection.execute("DELETE FROM ops.dead_letters WHERE received_at < %s", (before,)).rowcount


def _delete_clock_rows(connection: psycopg.Connection[Any], left: Sequence[Partition]) -> int:
    """Delete clock readings older than the oldest kept week of the inbox; without such a week, delete none."""
    weeks = [partition.monday for partition in left if partition.table == "inbox" and partition.monday is not None]
    before = to_datetime(day_start_us(min(weeks))) if weeks else None
    return connection.execute("DELETE FROM ops.clock_rows WHERE recorded_at < %s", (before,)).rowcount
