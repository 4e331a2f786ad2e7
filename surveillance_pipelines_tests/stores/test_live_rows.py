"""The live lane's rows as frames."""

from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.errors import IntegrityError
from surveillance_pipelines.contracts.frames import BAR_SCHEMA, TICK_SCHEMA
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.stores.live_rows import read_live_bars, read_ticks

DAY = date(2024, 3, 5)
NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)


def take(connection: psycopg.Connection, message_id: str, body: str, outcome: str, at: datetime = NOON) -> None:
    connection.execute(
        "INSERT INTO ops.inbox (message_id, queue_url, body, received_at, receive_count, event_time)"
        " VALUES (%s, 'q', %s, %s, 1, %s)",
        (message_id, body, at, at),
    )
    connection.execute(
        "INSERT INTO ops.ledger (message_id, queue_url, outcome, committed_at) VALUES (%s, 'q', %s, %s)",
        (message_id, outcome, at),
    )


def test_read_ticks_returns_accepted_messages_of_the_days(connection: psycopg.Connection):
    body = encode_tick(Tick("SPY", 400.5, 100.0, to_us(NOON)))
    take(connection, "m0", body, "scored")
    take(connection, "m1", body, "late")
    take(connection, "m2", body, "duplicate")
    take(connection, "m3", body, "scored", NOON + timedelta(days=1))
    ticks = read_ticks(connection, DAY, DAY)
    assert ticks.schema == TICK_SCHEMA
    assert ticks["source_message_id"].to_list() == ["m0", "m1"]
    assert ticks.row(0, named=True) | {"event_time": NOON, "price": 400.5, "date": DAY} == ticks.row(0, named=True)


def test_read_ticks_of_a_body_that_no_longer_decodes_says_which(connection: psycopg.Connection):
    take(connection, "m0", "not json", "scored")
    with pytest.raises(IntegrityError, match="message m0 to decode as it did"):
        read_ticks(connection, DAY, DAY)


def test_read_live_bars_returns_bars_as_served(connection: psycopg.Connection):
    connection.execute(
        "INSERT INTO ops.live_bars (symbol, bar_start, revision, open, high, low, close, volume, trades,"
        " first_event_time, event_time, bar_status, knowledge_time, source_message_id, market_return, market_peers,"
        " source, queue_url, committed_at)"
        " VALUES ('SPY', %(at)s, 0, 1, 2, 1, 2, 10, 3, %(at)s, %(at)s, 'final', %(at)s,"
        " 'm0', 0.5, 2, 'sqs', 'q', %(at)s)",
        {"at": NOON},
    )
    bars = read_live_bars(connection, DAY, DAY)
    assert bars.schema == BAR_SCHEMA
    assert bars.row(0, named=True)["market_return"] == 0.5
    assert read_live_bars(connection, DAY + timedelta(days=1), DAY + timedelta(days=1)).is_empty()


def test_read_nothing_keeps_the_columns(connection: psycopg.Connection):
    assert read_ticks(connection, DAY, DAY).schema == TICK_SCHEMA
    assert read_live_bars(connection, DAY, DAY).schema == BAR_SCHEMA
