"""The daily job that drops old weeks of the live lane's tables."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving.schedules import daily_retention_schedule
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.partitions import missing_weeks, partitions
from surveillance_pipelines_tests.defs.runs import run_job
from surveillance_pipelines_tests.stores.test_partitions import insert_message, insert_output

OLD = datetime(2024, 3, 5, 15, tzinfo=UTC)


@pytest.mark.requirement("ING-07")
def test_retention_job_drops_old_weeks_makes_coming_ones_and_says_so(
    platform: PlatformResource, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
):
    with connect(platform.endpoints.database_url, autocommit=True) as connection:
        insert_message(connection, "dead", OLD, outcome="dead")
        insert_output(connection, "o1", OLD)
        insert_output(connection, "o2", OLD + timedelta(days=7), published=False)
        (coming,) = [p for p in partitions(connection) if p.monday is not None and p.table == "ledger"][-1:]
        connection.execute(f"DROP TABLE ops.{coming.name}".encode())
        result = run_job("retention_job", platform, instance)
        assert missing_weeks(partitions(connection), platform.today()) == []
        assert connection.execute("SELECT count(*) FROM ops.ledger").fetchone() == (0,)
        assert connection.execute("SELECT id FROM ops.outbox").fetchall() == [("o2",)]
    (observed,) = result.get_asset_observation_events()
    figures: dict[str, Any] = {
        name: value.value for name, value in observed.asset_observation_data.asset_observation.metadata.items()
    }
    assert figures["partitions_dropped"] == 4
    assert coming.name in figures["partitions_added"]
    assert {row.data["partition"] for row in figures["dropped"].records} == {
        "ops.inbox_20240304", "ops.ledger_20240304", "ops.outbox_20240304", "ops.outbox_deliveries_20240304",
    }  # fmt: skip
    (kept,) = figures["kept"].records
    assert kept.data["partition"] == "ops.outbox_20240311"
    assert {row.data["table"] for row in figures["tables"].records} == {
        "ops.inbox", "ops.ledger", "ops.outbox", "ops.outbox_deliveries",
    }  # fmt: skip
    assert "ops.outbox_20240311 is older than 30 days and was kept: 1 messages wait" in capfd.readouterr().err


def test_retention_follows_the_nightly_fill_of_the_lake():
    night = datetime(2024, 3, 10, 1, 20, tzinfo=UTC)
    request: Any = daily_retention_schedule(dg.build_schedule_context(scheduled_execution_time=night))
    assert request.run_key == "2024-03-10"
