"""The books about the queue, and scores out of bounds."""

from datetime import UTC, datetime

import polars as pl
import psycopg
import pytest

from surveillance_pipelines.stores.check_queries import (
    balance,
    outside_unit_interval,
    refused_share,
    unreplayed_conflicts,
)
from surveillance_pipelines.stores.ingestion_runs import IngestionRun, record_ingestion_run

NOW = datetime(2024, 3, 5, 15, tzinfo=UTC)


def take(connection: psycopg.Connection, message_id: str, outcome: str | None) -> None:
    connection.execute(
        "INSERT INTO ops.inbox (message_id, queue_url, body, received_at, receive_count) VALUES (%s, 'q', '', %s, 1)",
        (message_id, NOW),
    )
    if outcome is not None:
        connection.execute(
            "INSERT INTO ops.ledger (message_id, queue_url, outcome, committed_at) VALUES (%s, 'q', %s, %s)",
            (message_id, outcome, NOW),
        )


def test_balance_of_messages_with_one_outcome_each_holds(connection: psycopg.Connection):
    for number, outcome in enumerate(("scored", "scored", "late", "dead", "duplicate")):
        take(connection, f"m{number}", outcome)
    books = balance(connection)
    assert books.holds
    assert books.outcomes == {"scored": 2, "late": 1, "dead": 1, "duplicate": 1}
    assert books.dead_share == 0.2


def test_balance_with_a_message_without_outcome_does_not_hold(connection: psycopg.Connection):
    take(connection, "m0", "scored")
    take(connection, "m1", None)
    books = balance(connection)
    assert not books.holds
    assert books.without_outcome == 1


@pytest.mark.requirement("MON-08")
def test_refused_share_sums_over_visits(connection: psycopg.Connection):
    assert refused_share(connection, "file") == (0, 0.0)
    visit = IngestionRun(source="file", started_at=NOW, finished_at=NOW, rows_in=10, landed=10)
    record_ingestion_run(connection, visit)
    assert refused_share(connection, "file") == (10, 0.0)


def test_outside_unit_interval_counts_nan_null_and_out_of_bounds():
    scores = pl.DataFrame({"score": [0.0, 1.0, 1.5, None], "confidence": [0.1, 0.2, 0.3, float("nan")]})
    assert outside_unit_interval(scores, ["score", "confidence"]) == {"score": 2, "confidence": 1}
    assert outside_unit_interval(scores.head(2), ["score", "confidence"]) == {}


def test_unreplayed_conflicts_counts_conflicts_that_wait(connection):
    insert = (
        "INSERT INTO ops.dead_letters (message_id, body, code, reason, received_at, replayed_at) "
        "VALUES (%s, '{}', %s, 'expected …', now(), %s)"
    )
    for number, (code, replayed_at) in enumerate([("conflict", None), ("conflict", "now"), ("not_json", None)]):
        connection.execute(insert, (f"m{number}", code, replayed_at))
    assert unreplayed_conflicts(connection) == 1
