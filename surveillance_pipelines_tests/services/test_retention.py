"""What retention drops, what it keeps and why, and what the books and the lake still say afterwards."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK, now, to_datetime
from surveillance_pipelines.contracts.frames import TICK_SCHEMA
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.services.retention import DEAD_LETTER_DAYS, Retained, retain
from surveillance_pipelines.stores.check_queries import balance
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.live_rows import read_ticks, with_dropped
from surveillance_pipelines.stores.partitions import PARTITIONED_TABLES, missing_weeks, partitions
from surveillance_pipelines_tests.engine.market import OPEN, ticks
from surveillance_pipelines_tests.stores.test_partitions import insert_output

OPENING = to_datetime(OPEN)
DAY = OPENING.date()
DROPPED_ON = DAY + timedelta(days=60)


@pytest.fixture
def books(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Thirty accepted messages and a dead one of a Tuesday long ago, one accepted message of the week after."""
    with connect(database_url, autocommit=True) as opened:
        for number, tick in enumerate(ticks(4)[:30]):
            insert(opened, f"m{number}", encode_tick(tick), to_datetime(tick.event_time), OPENING, "scored")
        insert(opened, "dead", "{", None, OPENING, "dead")
        later = OPENING + timedelta(days=7)
        insert(opened, "later", encode_tick(ticks(1)[0]), to_datetime(ticks(1)[0].event_time), later, "late")
        insert_output(opened, "o1", OPENING)
        yield opened


def insert(
    connection: psycopg.Connection[Any], id_: str, body: str, event_time: datetime | None, at: datetime, outcome: str
) -> None:
    connection.execute(
        "INSERT INTO ops.inbox (message_id, queue_url, body, received_at, receive_count, event_time, committed_at) "
        "VALUES (%s, 'q', %s, %s, 1, %s, %s)",
        (id_, body, at + timedelta(hours=1), event_time, at),
    )
    connection.execute(
        "INSERT INTO ops.ledger (message_id, queue_url, outcome, committed_at) VALUES (%s, 'q', %s, %s)",
        (id_, outcome, at),
    )


def land(connection: psycopg.Connection[Any], lake: Lake) -> int:
    """Fill the lake's day as the asset ``ticks`` does; return its rows."""
    frame = with_dropped(read_ticks(connection, DAY, DAY), lake.read("ticks", days=(DAY, DAY), schema=TICK_SCHEMA))
    lake.write_days("ticks", frame, days=frame["date"].unique().to_list())
    return lake.read("ticks")["source_message_id"].n_unique()


def run(connection: psycopg.Connection[Any], lake: Lake, days_later: int = 0) -> Retained:
    return retain(connection, lake, today=DROPPED_ON + timedelta(days=days_later), retention_days=30)


def test_retain_drops_old_weeks_whose_messages_are_in_the_lake(books: psycopg.Connection[Any], lake: Lake) -> None:
    assert land(books, lake) == 31
    done = run(books, lake)
    assert sorted(p.name for p in done.dropped if p.monday) == sorted(
        [
            "inbox_20240304",
            "ledger_20240304",
            "outbox_20240304",
            "outbox_deliveries_20240304",
            "inbox_20240311",
            "ledger_20240311",
        ]
    )
    assert done.kept == {}
    assert books.execute("SELECT count(*) FROM ops.inbox").fetchone() == (0,)
    assert missing_weeks(done.now, DROPPED_ON) == []
    again = run(books, lake)
    assert (again.added, again.dropped, again.kept) == ((), (), {})


def test_retain_keeps_a_week_that_the_lake_lacks_and_says_what_to_do(
    books: psycopg.Connection[Any], lake: Lake
) -> None:
    done = run(books, lake)
    assert [p.name for p in done.dropped] == ["outbox_20240304", "outbox_deliveries_20240304"]
    assert set(done.kept) == {f"{book}_202403{day}" for book in ("inbox", "ledger") for day in ("04", "11")}
    assert done.kept["inbox_20240304"] == (
        "the lake lacks accepted messages of 2024-03-05 (30): `surveillance backfill` those days"
    )
    assert balance(books).holds
    land(books, lake)
    assert len(run(books, lake).dropped) == 4


def test_retain_keeps_a_week_with_an_unpublished_message(books: psycopg.Connection[Any], lake: Lake) -> None:
    insert_output(books, "o2", OPENING, published=False)
    assert "1 messages wait for publication" in run(books, lake).kept["outbox_20240304"]
    books.execute(
        "INSERT INTO ops.delivery_cursors (queue_url, channel, position, updated_at) "
        "SELECT 'q', 'sqs', max(position), now() FROM ops.outbox"
    )
    assert {"outbox_20240304", "outbox_deliveries_20240304"} <= {p.name for p in run(books, lake).dropped}


def test_retain_keeps_a_week_for_every_configured_channel_and_for_no_other(
    books: psycopg.Connection[Any], lake: Lake
) -> None:
    both = retain(books, lake, today=DROPPED_ON, retention_days=30, channels=("sqs", "redis"))
    assert both.kept["outbox_20240304"] == both.kept["outbox_deliveries_20240304"]
    assert "1 messages wait for the channel redis" in both.kept["outbox_20240304"]
    books.execute(
        "INSERT INTO ops.delivery_cursors (queue_url, channel, position, updated_at) VALUES ('q', 'redis', 0, now())"
    )
    assert {"outbox_20240304", "outbox_deliveries_20240304"} <= {p.name for p in run(books, lake).dropped}


def test_books_balance_and_the_lake_keeps_its_day_after_part_of_it_is_dropped(
    books: psycopg.Connection[Any], lake: Lake
) -> None:
    assert land(books, lake) == 31
    done = retain(books, lake, today=DAY + timedelta(days=37), retention_days=30)
    assert {p.name for p in done.dropped} == {f"{book}_20240304" for book in PARTITIONED_TABLES}
    assert balance(books).taken == 1
    assert balance(books).holds
    assert read_ticks(books, DAY, DAY)["source_message_id"].to_list() == ["later"]
    assert land(books, lake) == 31


def test_positions_go_on_after_everything_is_dropped(books: psycopg.Connection[Any], lake: Lake) -> None:
    (last,) = books.execute("SELECT max(position) FROM ops.inbox").fetchone() or (0,)
    land(books, lake)
    run(books, lake)
    insert(books, "new", "{}", None, now(SYSTEM_CLOCK), "dead")
    assert books.execute("SELECT position FROM ops.inbox").fetchone() == (last + 1,)


def test_retain_forgets_dead_letters_after_a_year(books: psycopg.Connection[Any], lake: Lake) -> None:
    columns = "message_id, body, code, reason, received_at"
    insert_letter = f"INSERT INTO ops.dead_letters ({columns}) VALUES (%s, '{{', 'not_json', '', %s)".encode()
    books.execute(insert_letter, ("old", OPENING))
    books.execute(insert_letter, ("young", OPENING + timedelta(days=60)))
    assert run(books, lake).dead_letters == 0
    assert run(books, lake, DEAD_LETTER_DAYS - 30).dead_letters == 1
    assert books.execute("SELECT message_id FROM ops.dead_letters").fetchall() == [("young",)]


def test_clock_rows_go_with_the_messages_between_which_they_stand(books: psycopg.Connection[Any], lake: Lake) -> None:
    for at in (OPENING, OPENING + timedelta(days=7)):
        books.execute(
            "INSERT INTO ops.clock_rows (queue_url, event_clock, recorded_at, after_position) VALUES ('q', %s, %s, 1)",
            (at, at),
        )
    assert run(books, lake).clock_rows == 0, "the lake lacks the messages, so they stay"
    land(books, lake)
    done = retain(books, lake, today=DAY + timedelta(days=37), retention_days=30)
    assert done.clock_rows == 1
    assert books.execute("SELECT recorded_at FROM ops.clock_rows").fetchall() == [(OPENING + timedelta(days=7),)]


def test_retain_makes_the_partitions_of_the_coming_weeks(books: psycopg.Connection[Any], lake: Lake) -> None:
    today = now(SYSTEM_CLOCK).date() + timedelta(days=30)
    assert len(missing_weeks(partitions(books), today)) == 8
    retain(books, lake, today=today, retention_days=3650)
    assert missing_weeks(partitions(books), today) == []
