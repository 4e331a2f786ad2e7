"""The outbox over a real PostgreSQL: undelivered rows by channel, cursors, stamps, and what each statement reads."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.stores.database import Reconnector, connect
from surveillance_pipelines.stores.delivery_store import PostgresDeliveryStore
from surveillance_pipelines.stores.lease import acquire, delivery_lease
from surveillance_pipelines.stores.outbox import (
    SQS,
    OutboxRow,
    count_undelivered,
    mark_published,
    queues,
    record_deliveries,
    record_failure,
    undelivered,
    waiting,
)
from surveillance_pipelines_tests.engine.market import stream

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
AT = to_us(NOON)


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with connect(database_url, autocommit=True) as opened:
        yield opened


def post(database: psycopg.Connection[Any], *ids: str, queue_url: str = "q") -> None:
    for id_ in ids:
        database.execute(
            "INSERT INTO ops.outbox (id, queue_url, group_id, row_type, body, created_at) "
            "VALUES (%s, %s, 'SPY', 'anomaly', '{\"t_published\":null}', %s)",
            (id_, queue_url, NOON),
        )


def ids(rows: list[OutboxRow]) -> list[str]:
    return [row.id for row in rows]


def deliver(database: psycopg.Connection[Any], channel: str, rows: list[OutboxRow], cursor: int) -> None:
    record_deliveries(database, "q", channel, rows, delivered_at=AT, cursor=cursor)


def test_each_channel_has_its_own_cursor(database):
    post(database, "a", "b", "c")
    rows = undelivered(database, "q", SQS)
    assert ids(rows) == ["a", "b", "c"]
    deliver(database, SQS, rows[:2], rows[1].position)
    assert ids(undelivered(database, "q", SQS)) == ["c"]
    assert ids(undelivered(database, "q", "redis")) == ["a", "b", "c"]
    assert (count_undelivered(database, "q", SQS), count_undelivered(database, "q", "redis", limit=2)) == (1, 2)


def test_each_queue_has_its_own_cursor(database):
    post(database, "a1", queue_url="a")
    post(database, "b1", queue_url="b")
    post(database, "a2", queue_url="a")
    rows = undelivered(database, "a", SQS)
    record_deliveries(database, "a", SQS, rows, delivered_at=AT, cursor=rows[-1].position)
    assert queues(database) == ["a", "b"]
    assert (ids(undelivered(database, "a", SQS)), ids(undelivered(database, "b", SQS))) == ([], ["b1"])
    assert waiting(database, SQS).count == 1


def test_row_delivered_behind_the_cursor_is_not_returned_again(database):
    post(database, "refused", "b", "c")
    refused, b, _ = undelivered(database, "q", "redis")
    deliver(database, "redis", [b], refused.position - 1)
    assert ids(undelivered(database, "q", "redis")) == ["refused", "c"]
    assert ids(undelivered(database, "q", "redis", after=refused.position)) == ["c"]


def test_cursor_never_moves_back(database):
    post(database, "a", "b")
    a, b = undelivered(database, "q", SQS)
    deliver(database, SQS, [a, b], b.position)
    deliver(database, SQS, [a], a.position)
    assert undelivered(database, "q", SQS) == []
    assert database.execute("SELECT count(*) FROM ops.outbox_deliveries").fetchone() == (2,)


def test_waiting_reports_count_and_age(database):
    assert waiting(database, "redis").count == 0
    post(database, "a", "b")
    found = waiting(database, "redis")
    assert (found.count, found.oldest_at, found.error, found.failed_at) == (2, AT, None, None)
    rows = undelivered(database, "q", "redis")
    deliver(database, "redis", rows, rows[-1].position)
    found = waiting(database, "redis")
    assert (found.count, found.oldest_at) == (0, None)


def test_delivery_from_one_queue_clears_the_error_of_the_channel_and_of_no_other(database):
    for queue_url in ("one", "two"):
        post(database, f"{queue_url} 1", queue_url=queue_url)
    lease = acquire(database, delivery_lease("redis"), holder="test", seconds=60)
    assert lease is not None
    store = PostgresDeliveryStore(Reconnector(lambda: database), Reconnector(lambda: database), lease, "redis")
    store.record_failure("refused", at=AT)
    record_failure(database, ["one"], "other", "down", failed_at=AT)
    found = waiting(database, "redis")
    assert (found.count, found.error, found.failed_at) == (2, "refused", AT)
    (row,) = store.undelivered("one", after=0, limit=10)
    store.record("one", [row], [None], at=AT + 1, cursor=row.position)
    found = waiting(database, "redis")
    assert (found.count, found.error, found.failed_at) == (1, None, None)
    assert waiting(database, "other").error == "down"


def test_look_for_undelivered_rows_does_not_read_what_is_delivered(database):
    """With 20,000 delivered rows a look reads the few behind the cursor, by index."""
    database.execute(
        "INSERT INTO ops.outbox (id, queue_url, group_id, row_type, body, created_at) "
        "SELECT 'r' || n, 'q', 'SPY', 'anomaly', '{}', now() FROM generate_series(1, 20000) AS n"
    )
    database.execute(
        "INSERT INTO ops.outbox_deliveries (channel, position, created_at, delivered_at) "
        "SELECT 'sqs', position, created_at, now() FROM ops.outbox"
    )
    database.execute("INSERT INTO ops.delivery_cursors SELECT 'q', 'sqs', max(position) - 5, now() FROM ops.outbox")
    database.execute("DELETE FROM ops.outbox_deliveries WHERE position > (SELECT position FROM ops.delivery_cursors)")
    database.execute("ANALYZE ops.outbox; ANALYZE ops.outbox_deliveries; ANALYZE ops.delivery_cursors")
    assert len(undelivered(database, "q", SQS)) == 5
    database.execute("SELECT pg_stat_force_next_flush()")
    read = "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_user_tables WHERE relname LIKE 'outbox%'"
    before = database.execute(read).fetchone() or (0,)
    undelivered(database, "q", SQS)
    count_undelivered(database, "q", SQS)
    waiting(database, SQS)
    database.execute("SELECT pg_stat_force_next_flush()")
    after = database.execute(read).fetchone() or (0,)
    assert after[0] - before[0] < 200


def test_mark_published_stamps_the_rows_of_the_message_types(live_lane):
    live_lane.send(stream(90))
    live_lane.drain(window_seconds=30)
    for table, row_type in (("anomalies", "anomaly"), ("signals", "signal")):
        stamped = live_lane.query(
            f"SELECT count(*), count(rows.t_published), count(*) FILTER (WHERE rows.t_published = d.delivered_at) "
            f"FROM surveillance.{table} AS rows JOIN ops.outbox o USING (id) "
            "JOIN ops.outbox_deliveries d ON d.position = o.position AND d.channel = 'sqs' WHERE o.row_type = %s",
            row_type,
        )
        ((count, *published),) = stamped
        assert count > 0
        assert published == [count, count]


def test_mark_published_leaves_other_channels_alone(database):
    post(database, "a")
    mark_published(database, "q", undelivered(database, "q", SQS), published_at=AT)
    assert ids(undelivered(database, "q", "redis")) == ["a"]
