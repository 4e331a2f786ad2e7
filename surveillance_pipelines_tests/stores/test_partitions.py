"""The books of the live lane by week: moved into partitions and back, never without a place, dropped whole."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK, ManualClock, now
from surveillance_pipelines.stores.database import connect, migrate
from surveillance_pipelines.stores.partitions import (
    PARTITIONED_TABLES,
    WEEK,
    WEEKS_AHEAD,
    Partition,
    PartitionBusyError,
    add_partition,
    drop_partitions,
    missing_weeks,
    monday_of,
    partitions,
    stray_weeks,
)

TODAY = now(SYSTEM_CLOCK).date()
OLD = datetime(2024, 3, 5, 15, tzinfo=UTC)
FLAT = "0004"


@pytest.fixture
def books(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The migrated database, in autocommit mode."""
    with connect(database_url, autocommit=True) as opened:
        yield opened


def insert_message(
    connection: psycopg.Connection[Any], message_id: str, at: datetime, *, outcome: str = "scored"
) -> None:
    connection.execute(
        "INSERT INTO ops.inbox (message_id, queue_url, body, received_at, receive_count, committed_at) "
        "VALUES (%s, 'q', '{}', %s, 1, %s)",
        (message_id, at, at),
    )
    connection.execute(
        "INSERT INTO ops.ledger (message_id, dedup_id, queue_url, outcome, committed_at) VALUES (%s, %s, 'q', %s, %s)",
        (message_id, f"d-{message_id}", outcome, at),
    )


def insert_output(connection: psycopg.Connection[Any], id_: str, at: datetime, *, published: bool = True) -> None:
    position = connection.execute(
        "INSERT INTO ops.outbox (id, queue_url, group_id, row_type, body, created_at) "
        "VALUES (%s, 'q', 'SPY', 'anomaly', '{}', %s) RETURNING position",
        (id_, at),
    ).fetchone()
    if published:
        deliver(connection, position[0] if position else 0, at)


def deliver(connection: psycopg.Connection[Any], position: int, at: datetime, channel: str = "sqs") -> None:
    """Record one delivery without moving the cursor."""
    connection.execute(
        "INSERT INTO ops.outbox_deliveries (channel, position, created_at, delivered_at) VALUES (%s, %s, %s, %s)",
        (channel, position, at, at),
    )


def insert_flat_output(connection: psycopg.Connection[Any], id_: str, at: datetime, *, published: bool) -> None:
    """Insert a row as versions before the deliveries did."""
    connection.execute(
        "INSERT INTO ops.outbox (id, queue_url, group_id, body, created_at, published_at) "
        "VALUES (%s, 'q', 'SPY', '{\"type\":\"signal\"}', %s, %s)",
        (id_, at, at if published else None),
    )


def names(found: list[Partition], book: str) -> list[str]:
    return [partition.name for partition in found if partition.table == book]


def homes(connection: psycopg.Connection[Any], book: str, key: str = "message_id") -> dict[str, str]:
    query = f"SELECT {key}, tableoid::regclass::text FROM ops.{book}"
    return dict(connection.execute(query.encode()).fetchall())


def test_migrated_database_has_this_week_the_coming_ones_and_a_default(books: psycopg.Connection[Any]) -> None:
    found = partitions(books)
    weeks = [monday_of(TODAY) + WEEK * ahead for ahead in range(WEEKS_AHEAD + 1)]
    for book in PARTITIONED_TABLES:
        assert [p.monday for p in found if p.table == book] == [*weeks, None]
    assert missing_weeks(found, TODAY) == []
    assert missing_weeks(found, TODAY + WEEK) == [(book, weeks[-1] + WEEK) for book in PARTITIONED_TABLES]


def test_migration_moves_existing_rows_with_their_positions_and_back(empty_database_url: str) -> None:
    migrate(empty_database_url)
    migrate(empty_database_url, FLAT)
    with connect(empty_database_url, autocommit=True) as connection:
        for number in range(30):
            at = OLD + timedelta(days=number)
            connection.execute(
                "INSERT INTO ops.inbox (message_id, queue_url, body, received_at, receive_count) "
                "VALUES (%s, 'q', '{}', %s, 1)",
                (f"m{number}", at),
            )
            if number % 10:  # a message without outcome must not stop a migration
                connection.execute(
                    "INSERT INTO ops.ledger VALUES (%s, %s, 'q', 'scored', null, %s, null, null)",
                    (f"m{number}", f"d{number}", at + timedelta(days=1)),
                )
            insert_flat_output(connection, f"o{number}", at, published=number % 3 > 0)
        flat = connection.execute("SELECT message_id, position FROM ops.inbox ORDER BY position").fetchall()
    migrate(empty_database_url)
    with connect(empty_database_url, autocommit=True) as connection:
        moved = connection.execute("SELECT message_id, position FROM ops.inbox ORDER BY position").fetchall()
        assert moved == flat
        assert "inbox_default" not in " ".join(homes(connection, "inbox").values())
        both = "SELECT count(*) FROM ops.inbox JOIN ops.ledger USING (message_id)"
        apart = f"{both} WHERE inbox.committed_at <> ledger.committed_at"
        assert connection.execute(apart.encode()).fetchone() == (0,)
        insert_message(connection, "new", now(SYSTEM_CLOCK))
        insert_output(connection, "new", now(SYSTEM_CLOCK), published=False)
        after = connection.execute("SELECT position FROM ops.inbox WHERE message_id = 'new'").fetchone()
        assert after == (flat[-1][1] + 1,)
    migrate(empty_database_url, FLAT)
    with connect(empty_database_url, autocommit=True) as connection:
        back = connection.execute("SELECT message_id, position FROM ops.inbox ORDER BY position").fetchall()
        assert back == [*flat, ("new", flat[-1][1] + 1)]
        assert connection.execute("SELECT count(*) FROM ops.ledger").fetchone() == (28,)
        published = (
            "SELECT count(*), count(published_at), count(*) FILTER (WHERE published_at = created_at) FROM ops.outbox"
        )
        assert connection.execute(published.encode()).fetchone() == (31, 20, 20)
        connection.execute(
            "INSERT INTO ops.inbox (message_id, queue_url, body, received_at, receive_count) "
            "VALUES ('newer', 'q', '{}', now(), 1)"
        )
        newer = connection.execute("SELECT position FROM ops.inbox WHERE message_id = 'newer'").fetchone()
        assert newer == (flat[-1][1] + 2,)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO ops.ledger VALUES ('x', 'd1', 'q', 'late', null, now(), null, null)")


def test_commit_of_a_week_without_partition_finds_its_place_and_moves_when_the_week_is_over(
    books: psycopg.Connection[Any],
) -> None:
    insert_message(books, "m1", OLD)
    insert_message(books, "m2", OLD + WEEK)
    insert_output(books, "o1", OLD)
    assert homes(books, "inbox") == {"m1": "ops.inbox_default", "m2": "ops.inbox_default"}
    today = OLD.date() + timedelta(days=10)
    assert stray_weeks(books, today) == [(book, date(2024, 3, 4)) for book in PARTITIONED_TABLES]
    for book, monday in stray_weeks(books, today):
        assert add_partition(books, book, monday) is not None
        assert add_partition(books, book, monday) is None
    assert homes(books, "ledger") == {"m1": "ops.ledger_20240304", "m2": "ops.ledger_default"}
    assert homes(books, "outbox", "id") == {"o1": "ops.outbox_20240304"}
    assert homes(books, "outbox_deliveries", "channel") == {"sqs": "ops.outbox_deliveries_20240304"}
    insert_message(books, "m3", OLD + timedelta(days=1))
    assert homes(books, "inbox")["m3"] == "ops.inbox_20240304"
    positions = books.execute("SELECT message_id FROM ops.inbox ORDER BY position").fetchall()
    assert positions == [("m1",), ("m2",), ("m3",)]


@pytest.mark.parametrize("book", PARTITIONED_TABLES)
def test_new_partition_has_the_unique_keys_of_the_default_one(books: psycopg.Connection[Any], book: str) -> None:
    for place, at in (("default", OLD), ("week", now(SYSTEM_CLOCK))):
        if book == "outbox":
            insert_output(books, f"o-{place}", at)
            with pytest.raises(psycopg.errors.UniqueViolation):
                insert_output(books, f"o-{place}", at)
            continue
        if book == "outbox_deliveries":
            deliver(books, 1, at)
            deliver(books, 1, at, "redis")
            with pytest.raises(psycopg.errors.UniqueViolation):
                deliver(books, 1, at)
            continue
        insert_message(books, f"m-{place}", at)
        with pytest.raises(psycopg.errors.UniqueViolation):
            insert_message(books, f"m-{place}", at + timedelta(microseconds=1))
    if book == "ledger":
        insert = "INSERT INTO ops.ledger VALUES (%s, 'd-m-week', 'q', %s, null, now(), null, null)"
        books.execute(insert, ("second", "duplicate"))
        with pytest.raises(psycopg.errors.UniqueViolation):
            books.execute(insert, ("third", "late"))


def test_lookups_by_id_read_indexes_only(books: psycopg.Connection[Any]) -> None:
    books.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    for condition in (
        "message_id = ANY('{a,b}')",
        "queue_url = 'q' AND dedup_id = ANY('{a}') AND outcome <> 'duplicate'",
    ):
        column = "message_id" if condition.startswith("message_id") else "dedup_id"
        plan = books.execute(f"EXPLAIN SELECT {column} FROM ops.ledger WHERE {condition}".encode()).fetchall()
        scans = [line for (line,) in plan if "Scan" in line]
        assert len(scans) == WEEKS_AHEAD + 2
        assert all("Index Only Scan" in line for line in scans)


def test_drop_partitions_drops_all_or_none_and_never_a_default(books: psycopg.Connection[Any]) -> None:
    found = [p for p in partitions(books) if p.monday == monday_of(TODAY) + WEEK]
    drop_partitions(books, found)
    assert [book for book, _ in missing_weeks(partitions(books), TODAY)] == list(PARTITIONED_TABLES)
    with pytest.raises(ValueError, match="default partition"):
        drop_partitions(books, partitions(books))
    there = [p for p in partitions(books) if p.monday == monday_of(TODAY)]
    with pytest.raises(psycopg.errors.UndefinedTable):
        drop_partitions(books, [*there, *found])
    assert set(there) <= set(partitions(books))


def test_drop_of_a_partition_in_use_waits_in_short_turns_and_gives_up_in_words(
    books: psycopg.Connection[Any], database_url: str
) -> None:
    (week,) = [p for p in partitions(books) if p.table == "outbox" and p.monday == monday_of(TODAY) + WEEK]
    clock = ManualClock(OLD)
    with connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM ops.outbox")
        began = SYSTEM_CLOCK.now_us()
        with pytest.raises(PartitionBusyError, match="pg_stat_activity"):
            drop_partitions(books, [week], clock=clock)
        assert SYSTEM_CLOCK.now_us() - began > 60 * 100_000
        timer = threading.Timer(0.3, reader.rollback)
        timer.start()
        drop_partitions(books, [week])
        timer.join()
    assert week.name not in names(partitions(books), "outbox")


def test_changes_want_a_connection_in_autocommit_mode(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(ValueError, match="autocommit"):
        add_partition(connection, "inbox", TODAY + 5 * WEEK)


def test_drop_waits_for_a_commit_under_way_and_stops_none(books: psycopg.Connection[Any], database_url: str) -> None:
    week = [p for p in partitions(books) if p.monday == monday_of(TODAY) + WEEK]
    with connect(database_url) as writer:
        columns = "message_id, queue_url, body, received_at, receive_count"
        writer.execute(f"INSERT INTO ops.inbox ({columns}) VALUES ('m', 'q', '', now(), 1)".encode())
        dropping = threading.Thread(target=drop_partitions, args=(books, week[::-1]))
        dropping.start()
        SYSTEM_CLOCK.sleep(0.05)  # while it waits for the inbox, the commit goes on to ledger and outbox
        writer.execute("INSERT INTO ops.ledger VALUES ('m', null, 'q', 'scored', null, now(), null, null)")
        insert_output(writer, "o", now(SYSTEM_CLOCK))
        writer.commit()
        dropping.join(timeout=30)
    assert not dropping.is_alive()
    assert not [p for p in partitions(books) if p.monday == monday_of(TODAY) + WEEK]
    assert homes(books, "ledger") == {"m": f"ops.ledger_{monday_of(TODAY):%Y%m%d}"}
