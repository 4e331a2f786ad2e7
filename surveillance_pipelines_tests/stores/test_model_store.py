from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args
from uuid import UUID

import psycopg
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.model_store import (
    MetricType,
    ModelVersion,
    QualityMetric,
    find_bundle,
    find_version,
    list_versions,
    next_version,
    record_version,
)


def a_version(number: int) -> ModelVersion:
    return ModelVersion(
        version=number,
        bundle_hash=f"hash{number}",
        path=Path(f"/models/v{number}"),
        training_duration_seconds=12.5,
        training_dataset_size=50_000,
    )


@pytest.mark.requirement("SCH-10")
def test_list_versions_shows_which_one_is_active(connection: psycopg.Connection):
    for number in (1, 2):
        record_version(connection, a_version(number))
    deploy_version(connection, 1, decided_by="test")
    assert {record.version: record.is_active for record in list_versions(connection)} == {"v1": True, "v2": False}
    deploy_version(connection, 2, decided_by="test")
    assert {record.version: record.is_active for record in list_versions(connection)} == {"v1": False, "v2": True}


def test_find_version_that_is_unknown_says_so(connection: psycopg.Connection):
    assert record_version(connection, a_version(1)) == find_version(connection, 1).id
    with pytest.raises(LookupError, match="got v9, which is not registered"):
        find_version(connection, 9)
    with pytest.raises(LookupError, match="strategy 'momentum'"):
        find_version(connection, 1, "momentum")


@pytest.mark.requirement("TRN-07")
def test_record_version_keeps_metadata_and_quality(connection: psycopg.Connection):
    clock = ManualClock(datetime(2024, 1, 15, 12, tzinfo=UTC))
    metric = QualityMetric(name="accuracy", value=0.82, model="classifier", split="test", dataset_size=10_000)
    identity = record_version(connection, a_version(3), [metric], clock)
    row = connection.execute(
        "SELECT version, trained_at, training_dataset_size FROM surveillance.model_versions WHERE id = %s", (identity,)
    ).fetchone()
    assert row == ("v3", datetime(2024, 1, 15, 12, tzinfo=UTC), 50_000)
    figures = connection.execute("SELECT metric_name, metric_value, metric_type FROM surveillance.model_metrics")
    assert figures.fetchall() == [("accuracy", 0.82, "classification")]


@pytest.mark.requirement("SCH-10")
def test_record_version_keeps_every_field_of_a_version(connection: psycopg.Connection):
    trained = datetime(2024, 1, 15, 12, tzinfo=UTC)
    model = replace(a_version(2), model_type="xgboost", strategy_id="momentum_v1", is_warmup_mode=True)
    metric = QualityMetric(name="accuracy", value=0.82, model="classifier", split="test", dataset_size=10_000)
    identity = record_version(connection, model, [metric], ManualClock(trained))
    record = find_version(connection, 2, "momentum_v1")
    assert (record.id, record.version, record.model_type) == (identity, "v2", "xgboost")
    assert (record.strategy_id, record.trained_at, record.training_duration_seconds) == ("momentum_v1", trained, 12.5)
    assert (record.training_dataset_size, record.is_active, record.is_warmup_mode) == (50_000, False, True)
    row = connection.execute(
        "SELECT created_at, updated_at, array_agg(metric_name) FROM surveillance.model_versions AS versions "
        "JOIN surveillance.model_metrics AS metrics ON model_version_id = versions.id GROUP BY versions.id"
    ).fetchone()
    assert row == (trained, trained, ["accuracy"])


@pytest.mark.requirement("SCH-11")
@pytest.mark.parametrize("metric_type", get_args(MetricType))
def test_record_version_keeps_every_field_of_a_metric(connection: psycopg.Connection, metric_type: MetricType):
    clock = ManualClock(datetime(2024, 1, 15, 12, tzinfo=UTC))
    metric = QualityMetric(
        name="accuracy", value=0.82, model="classifier", split="test", dataset_size=10_000, metric_type=metric_type
    )
    version = record_version(connection, a_version(3), [metric], clock)
    ((identity, *fields),) = connection.execute(
        "SELECT id, model_version_id, metric_name, metric_value, metric_type, evaluated_at, evaluation_dataset_size "
        "FROM surveillance.model_metrics"
    )
    assert isinstance(identity, UUID)
    assert fields == [version, "accuracy", 0.82, metric_type, datetime(2024, 1, 15, 12, tzinfo=UTC), 10_000]


def test_record_version_twice_raises(connection: psycopg.Connection):
    record_version(connection, a_version(1))
    with pytest.raises(psycopg.errors.UniqueViolation):
        record_version(connection, a_version(1))


def test_next_version_counts_only_version_folders(connection: psycopg.Connection, tmp_path: Path):
    assert next_version(connection, tmp_path) == 1
    for name in ("v1", "v12", "vault", "build"):
        (tmp_path / name).mkdir()
    assert next_version(connection, tmp_path) == 13


def test_next_version_after_a_lost_disk_goes_on_from_the_records(connection: psycopg.Connection, tmp_path: Path):
    record_version(connection, a_version(4))
    assert next_version(connection, tmp_path) == 5


def test_find_bundle_by_the_beginning_of_its_hash_is_the_newest_version(connection: psycopg.Connection):
    for number, bundle_hash in enumerate(("aaaaaaaa11", "aaaaaaaa11", "bbbbbbbb22"), start=1):
        record_version(connection, replace(a_version(number), bundle_hash=bundle_hash))
    assert find_bundle(connection, "aaaaaaaa") == (2, "/models/v2", "aaaaaaaa11")
    assert find_bundle(connection, "bbbbbbbb22").version == 3


def test_find_bundle_that_is_unknown_ambiguous_or_too_short_says_so(connection: psycopg.Connection):
    for number, bundle_hash in enumerate(("aaaaaaaa11", "aaaaaaaa22"), start=1):
        record_version(connection, replace(a_version(number), bundle_hash=bundle_hash))
    with pytest.raises(LookupError, match="found none"):
        find_bundle(connection, "cccccccc")
    with pytest.raises(LookupError, match="aaaaaaaa11, aaaaaaaa22"):
        find_bundle(connection, "aaaaaaaa")
    with pytest.raises(ValueError, match="at least 8 characters"):
        find_bundle(connection, "aaaa")
