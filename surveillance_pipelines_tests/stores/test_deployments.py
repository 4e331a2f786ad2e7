"""Deployments in a real database: what serves, what is kept, what is refused."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.lifecycle.deployments import Scope, TransitionError
from surveillance_pipelines.stores.deployments import (
    champion,
    champion_deployment,
    deploy_version,
    deployed_paths,
    history,
    open_deployments,
)
from surveillance_pipelines.stores.model_store import record_version
from surveillance_pipelines_tests.stores.test_model_store import a_version

AT = datetime(2024, 3, 4, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def three_versions(connection: psycopg.Connection) -> None:
    for number in (1, 2, 3):
        record_version(connection, a_version(number))


def test_champion_before_any_promotion_is_none(connection: psycopg.Connection):
    assert champion(connection) is None
    assert champion_deployment(connection) is None


@pytest.mark.requirement("TRN-08")
def test_second_promotion_retires_the_first_and_keeps_the_history(connection: psycopg.Connection):
    clock = ManualClock(AT)
    deploy_version(
        connection, 1, decided_by="training_job", reasons=["gate passed"], feature_view="core_v1", clock=clock
    )
    clock.advance(3600)
    deploy_version(connection, 2, decided_by="someone", reasons=["by hand"], clock=clock)
    assert champion(connection) == (2, "/models/v2", "hash2")
    rows = [
        (row.version, row.role, row.since, row.until, row.decided_by, row.reasons)
        for row in history(connection, Scope())
    ]
    later = AT + timedelta(hours=1)
    assert rows == [
        ("v1", "champion", AT, later, "training_job", ("gate passed",)),
        ("v2", "champion", later, None, "someone", ("by hand",)),
        ("v1", "retired", later, None, "someone", ("replaced by v2",)),
    ]
    views = connection.execute(
        "SELECT DISTINCT version, feature_view FROM surveillance.deployments ORDER BY 1"
    ).fetchall()
    assert views == [("v1", "core_v1"), ("v2", None)]


def test_refused_transition_changes_nothing(connection: psycopg.Connection):
    deploy_version(connection, 1, decided_by="test")
    before = history(connection, Scope())
    with pytest.raises(LookupError, match="v9"):
        deploy_version(connection, 9, decided_by="test")
    with pytest.raises(TransitionError, match="expected a champion to remain"):
        deploy_version(connection, 1, role="retired", decided_by="test")
    deploy_version(connection, 2, role="canary", traffic_share=0.6, decided_by="test")
    with pytest.raises(TransitionError, match="at most 1 together"):
        deploy_version(connection, 3, role="canary", traffic_share=0.6, decided_by="test")
    assert [row for row in history(connection, Scope()) if row.version != "v2"] == before


@pytest.mark.requirement("INF-03")
def test_tenant_without_a_champion_is_served_by_that_of_the_default_tenant(connection: psycopg.Connection):
    acme = Scope(tenant="acme")
    deploy_version(connection, 1, decided_by="test")
    assert champion(connection, "acme") == (1, "/models/v1", "hash1")
    deploy_version(connection, 2, scope=acme, decided_by="test")
    assert champion(connection, "acme") == (2, "/models/v2", "hash2")
    assert champion(connection) == (1, "/models/v1", "hash1")
    deployment = champion_deployment(connection, "acme")
    assert deployment is not None
    assert deployment.scope == acme
    deploy_version(connection, 2, role="retired", leave_no_champion=True, scope=acme, decided_by="test")
    assert champion(connection, "acme") == (1, "/models/v1", "hash1")
    assert champion(connection, "acme", "momentum") is None


def test_bundle_of_a_deleted_version_is_still_found(connection: psycopg.Connection):
    deploy_version(connection, 1, decided_by="test")
    connection.execute("DELETE FROM surveillance.model_versions WHERE version = 'v1'")
    assert champion(connection) == (1, "/models/v1", "hash1")
    assert deployed_paths(connection, "hash1") == [Path("/models/v1")]
    assert deployed_paths(connection, "hash2") == [Path("/models/v2")], "registered, never deployed"
    assert deployed_paths(connection, "hash9") == []


@pytest.mark.parametrize(
    ("index", "values"),
    [
        ("one_champion", ("hash2", "v2", "champion", 1.0)),
        ("one_role_per_model", ("hash1", "v1", "shadow", 0.0)),
        ("check", ("hash2", "v2", "retired", 0.5)),
    ],
)
def test_rows_that_break_a_rule_are_refused_by_the_table(connection: psycopg.Connection, index: str, values: tuple):
    deploy_version(connection, 1, decided_by="test")
    with pytest.raises(psycopg.errors.IntegrityError, match=index):
        connection.execute(
            "INSERT INTO surveillance.deployments (tenant, strategy, kind, model_id, version, role, traffic_share,"
            " since, decided_by, reasons)"
            " VALUES ('default', 'surveillance', 'bundle', %s, %s, %s, %s, now(), 'test', '{}')",
            values,
        )


def test_roles_beside_the_champion_are_open_deployments(connection: psycopg.Connection):
    deploy_version(connection, 1, decided_by="test")
    deploy_version(connection, 2, role="challenger", traffic_share=0.1, decided_by="test")
    deploy_version(connection, 3, role="shadow", decided_by="test")
    deploy_version(connection, 2, role="challenger", traffic_share=0.2, decided_by="test")
    found = {row.version: (row.role, row.traffic_share) for row in open_deployments(connection, Scope())}
    assert found == {"v1": ("champion", 1.0), "v2": ("challenger", 0.2), "v3": ("shadow", 0.0)}
