"""The migration to deployments, on a database filled at the revision before it."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from surveillance_pipelines.lifecycle.deployments import Deployment, Scope
from surveillance_pipelines.stores.database import connect, migrate
from surveillance_pipelines.stores.deployments import champion, deploy_version, deployed_paths, history

BEFORE = "0007"
AT = datetime(2024, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(hours: float) -> datetime:
    return AT + hours * HOUR


@pytest.fixture
def old(empty_database_url: str) -> str:
    """A database at the revision before, without rows."""
    migrate(empty_database_url)
    migrate(empty_database_url, BEFORE)
    return empty_database_url


def add_version(
    connection: psycopg.Connection[Any], number: int, *, active: bool = False, strategy: str = "surveillance",
    updated: datetime = AT, bundle_hash: str | None = None,
) -> None:  # fmt: skip
    connection.execute(
        "INSERT INTO surveillance.model_versions (id, version, strategy_id, model_type, bundle_hash, path, trained_at,"
        " training_duration_seconds, training_dataset_size, is_active, created_at, updated_at)"
        " VALUES (%s, %s, %s, 'bundle', %s, %s, %s, 1, 1, %s, %s, %s)",
        (uuid.uuid4(), f"v{number}", strategy, bundle_hash or f"hash{number}", f"/models/v{number}", AT, active, AT,
         updated),
    )  # fmt: skip


def add_promotion(connection: psycopg.Connection[Any], number: int, hours: float, reason: str = "by hand") -> None:
    connection.execute(
        "INSERT INTO ops.bundle_timeline (version, bundle_hash, path, feature_view, promoted_at, reason)"
        " VALUES (%s, %s, %s, 'core_v1', %s, %s)",
        (number, f"hash{number}", f"/models/v{number}", at(hours), reason),
    )


def upgraded(url: str, strategy: str = "surveillance") -> list[Deployment]:
    migrate(url, "+1")
    with connect(url) as connection:
        return history(connection, Scope(strategy=strategy))


def facts(rows: list[Deployment], role: str) -> list[tuple]:
    return [(row.version, row.since, row.until) for row in rows if row.role == role]


def timeline(url: str) -> list[tuple]:
    with connect(url) as connection:
        return connection.execute(
            "SELECT version, bundle_hash, path, feature_view, promoted_at, reason FROM ops.bundle_timeline ORDER BY id"
        ).fetchall()


def active(url: str) -> list[tuple]:
    with connect(url) as connection:
        return connection.execute(
            "SELECT strategy_id, version FROM surveillance.model_versions WHERE is_active ORDER BY 1"
        ).fetchall()


def test_promotions_become_deployments_and_go_back(old: str):
    with connect(old) as connection:
        for number in (1, 2, 3):
            add_version(connection, number, active=number == 1)
        add_promotion(connection, 1, 0, "passed the gate in run abc")
        add_promotion(connection, 9, 1)  # its version is gone
        add_promotion(connection, 2, 2)
        add_promotion(connection, 2, 3, "again")
        add_promotion(connection, 1, 4, "back")
    before = timeline(old)
    rows = upgraded(old)
    assert facts(rows, "champion") == [
        ("v1", at(0), at(1)),
        ("v9", at(1), at(2)),
        ("v2", at(2), at(3)),
        ("v2", at(3), at(4)),
        ("v1", at(4), None),
    ]
    assert facts(rows, "retired") == [("v1", at(1), at(4)), ("v9", at(2), None), ("v2", at(4), None)]
    assert [(row.decided_by, row.reasons) for row in rows if row.version == "v1"] == [
        ("training_job", ("passed the gate in run abc",)),
        ("not recorded", ("replaced by v9",)),
        ("not recorded", ("back",)),
    ]
    with connect(old) as connection:
        assert champion(connection) == (1, "/models/v1", "hash1")
        assert [str(path) for path in deployed_paths(connection, "hash9")] == ["/models/v9"]
        without = connection.execute(
            "SELECT DISTINCT version FROM surveillance.deployments WHERE model_version_id IS NULL"
        )
        assert without.fetchall() == [("v9",)]
    migrate(old, BEFORE)
    assert timeline(old) == before
    assert active(old) == [("surveillance", "v1")]


def test_history_that_was_migrated_goes_on(old: str):
    with connect(old) as connection:
        add_version(connection, 1, active=True)
        add_version(connection, 2)
        add_promotion(connection, 1, 0)
    upgraded(old)
    with connect(old) as connection:
        deploy_version(connection, 2, decided_by="someone", reasons=["better", "newer"])
        deploy_version(connection, 1, role="challenger", decided_by="someone")
    migrate(old, BEFORE)
    assert [(row[0], row[3], row[5]) for row in timeline(old)] == [
        (1, "core_v1", "by hand"),
        (2, "core_v1", "better; newer"),
    ]
    assert active(old) == [("surveillance", "v2")]


def test_active_version_without_a_promotion_becomes_the_champion(old: str):
    with connect(old) as connection:
        add_version(connection, 1, active=True, updated=at(5))
        add_version(connection, 1, active=True, updated=at(6), strategy="momentum", bundle_hash="other")
    (row,) = upgraded(old)
    assert (row.version, row.role, row.since, row.until, row.decided_by) == (
        "v1",
        "champion",
        at(5),
        None,
        "migration 0008",
    )
    assert row.reasons == ("active before deployments were recorded",)
    with connect(old) as connection:
        assert champion(connection, strategy="momentum") == (1, "/models/v1", "other")
    migrate(old, BEFORE)
    assert timeline(old) == [], "nothing is invented"
    assert active(old) == [("momentum", "v1"), ("surveillance", "v1")]


def test_version_that_was_activated_by_hand_follows_the_newest_promotion(old: str):
    with connect(old) as connection:
        add_version(connection, 1, active=True, updated=at(7))
        add_version(connection, 2)
        add_promotion(connection, 1, 0)
        add_promotion(connection, 2, 1)
    rows = upgraded(old)
    assert facts(rows, "champion") == [("v1", at(0), at(1)), ("v2", at(1), at(7)), ("v1", at(7), None)]
    assert facts(rows, "retired") == [("v1", at(1), at(7)), ("v2", at(7), None)]


def test_champion_that_was_withdrawn_is_retired(old: str):
    with connect(old) as connection:
        add_version(connection, 1, updated=at(3))
        add_promotion(connection, 1, 0)
    rows = upgraded(old)
    assert facts(rows, "champion") == [("v1", at(0), at(3))]
    assert facts(rows, "retired") == [("v1", at(3), None)]
    with connect(old) as connection:
        assert champion(connection) is None
    migrate(old, BEFORE)
    assert (len(timeline(old)), active(old)) == (1, [])


def test_empty_database_and_one_with_views_over_the_column_migrate(old: str):
    with connect(old) as connection:
        connection.execute("CREATE SCHEMA marts")
        connection.execute(
            "CREATE VIEW marts.stg_model_versions AS SELECT id, is_active FROM surveillance.model_versions"
        )
        connection.execute("CREATE TABLE marts.kept AS SELECT * FROM marts.stg_model_versions")
    assert upgraded(old) == []
    with connect(old) as connection:
        assert connection.execute("SELECT * FROM marts.kept").fetchall() == []
        assert connection.execute("SELECT to_regclass('marts.stg_model_versions')").fetchone() == (None,)
