"""Marts over a ledger whose old weeks are dropped: the rows built from them stay."""

import dagster as dg
import pytest

from surveillance_pipelines.stores.database import connect
from surveillance_pipelines_tests.marts.conftest import build
from surveillance_pipelines_tests.marts.rows import MONDAY, insert_everything

# dagster-dbt 0.29 uses its context in a way that Dagster 1.13 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*AssetExecutionContext:DeprecationWarning:dagster_dbt")


@pytest.mark.slow
def test_mart_keeps_the_rows_of_a_dropped_week(database_url: str, marts_definitions: dg.Definitions):
    health = "SELECT messages, scored, peak_messages_per_minute FROM marts.ingestion_health_by_day WHERE messages > 0"
    waits = "SELECT hour_start, messages FROM marts.serving_latency_by_hour WHERE stage = 'wait' ORDER BY 1"
    with connect(database_url, autocommit=True) as connection:
        insert_everything(connection)
        build(database_url, marts_definitions)
        before = connection.execute(health.encode()).fetchall()
        waited = connection.execute(waits.encode()).fetchall()
        assert before == [(10, 6, 7)]
        connection.execute("DELETE FROM ops.ledger; DELETE FROM ops.inbox;")
        build(database_url, marts_definitions)
        assert connection.execute(health.encode()).fetchall() == before
        connection.execute(
            "INSERT INTO ops.ledger (message_id, queue_url, outcome, committed_at) "
            "VALUES ('new', 'q', 'late', %(at)s::timestamptz + interval '20 days')",
            {"at": MONDAY},
        )
        build(database_url, marts_definitions)
        after = connection.execute(f"{health} ORDER BY day".encode()).fetchall()
        assert after == [*before, (1, 0, 1)]
        assert connection.execute(waits.encode()).fetchall() == waited
