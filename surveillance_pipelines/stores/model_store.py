"""Model versions: records in PostgreSQL and frozen bundles on disk. Deployments are in ``deployments.py``."""

import re
import shlex
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.outputs import DEFAULT_STRATEGY

MetricType = Literal["classification", "regression", "trading_performance"]

MIN_HASH_CHARACTERS: Final = 8
"""Minimum length of a hash prefix; 32 bits distinguish the bundles of one platform."""

_VERSIONS: Final = """
    SELECT id, version, strategy_id, model_type, bundle_hash, path, mlflow_version, mlflow_run_id, trained_at,
        training_duration_seconds, training_dataset_size, is_warmup_mode,
        EXISTS (SELECT FROM surveillance.deployments
                WHERE model_version_id = versions.id AND role = 'champion' AND until IS NULL)
    FROM surveillance.model_versions AS versions
"""


class UnknownVersionError(SurveillanceError, LookupError, code=ErrorCode.NOT_FOUND):
    """A strategy has no such version."""


class StoredBundle(NamedTuple):
    """A registered bundle, as loaded by the live lane and batch scoring; see ``bundle_folders.py`` for its path."""

    version: int
    path: str
    bundle_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One trained bundle. ``version`` is the number of its folder ``v{version}``.

    ``path`` is relative to the models folder, or absolute for a bundle outside of it.
    """

    version: int
    bundle_hash: str
    path: Path
    training_duration_seconds: float
    training_dataset_size: int
    mlflow_version: int | None = None
    mlflow_run_id: str | None = None
    model_type: str = "bundle"
    strategy_id: str = DEFAULT_STRATEGY
    is_warmup_mode: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """The record of a version.

    Attributes:
        version: name, such as ``v3``.
        is_active: whether it is the champion of any tenant, derived from the deployments.
    """

    id: uuid.UUID
    version: str
    strategy_id: str
    model_type: str
    bundle_hash: str
    path: Path
    mlflow_version: int | None
    mlflow_run_id: str | None
    trained_at: datetime
    training_duration_seconds: float
    training_dataset_size: int
    is_warmup_mode: bool
    is_active: bool


_VERSION_FIELDS: Final = tuple(field.name for field in fields(VersionRecord))


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMetric:
    """One metric of an evaluation."""

    name: str
    value: float
    model: str
    split: str
    dataset_size: int
    metric_type: MetricType = "classification"


def next_version(connection: psycopg.Connection[Any], models_path: Path) -> int:
    """Return the number after the highest version in the records and in the folders ``v{n}``; the first is 1.

    A crash can leave a folder without a record, and a lost disk leaves records without folders.
    """
    recorded = connection.execute("SELECT version FROM surveillance.model_versions").fetchall()
    names = [name for (name,) in recorded] + [path.name for path in models_path.glob("v*")]
    return max((int(found[1]) for name in names if (found := re.fullmatch(r"v(\d+)", name))), default=0) + 1


def record_version(
    connection: psycopg.Connection[Any],
    model: ModelVersion,
    metrics: Sequence[QualityMetric] = (),
    clock: Clock = SYSTEM_CLOCK,
) -> uuid.UUID:
    """Write a version and its metrics, and return its id. The version serves after its deployment.

    Raises:
        psycopg.errors.UniqueViolation: if the strategy already has this version.
    """
    identity, at = uuid.uuid4(), now(clock)
    connection.execute(
        "INSERT INTO surveillance.model_versions (id, version, strategy_id, model_type, bundle_hash, path,"
        " mlflow_version, mlflow_run_id, trained_at, training_duration_seconds, training_dataset_size,"
        " is_warmup_mode, created_at, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            identity, f"v{model.version}", model.strategy_id, model.model_type, model.bundle_hash, str(model.path),
            model.mlflow_version, model.mlflow_run_id, at, model.training_duration_seconds,
            model.training_dataset_size, model.is_warmup_mode, at, at,
        ),
    )  # fmt: skip
    record_metrics(connection, identity, metrics, clock)
    return identity


def record_metrics(
    connection: psycopg.Connection[Any],
    model_version_id: uuid.UUID,
    metrics: Sequence[QualityMetric],
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Add metrics of an evaluation to a version."""
    at = now(clock)
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO surveillance.model_metrics (id, model_version_id, model, split, metric_name, metric_value,"
            " metric_type, evaluated_at, evaluation_dataset_size) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (uuid.uuid4(), model_version_id, metric.model, metric.split, metric.name, metric.value,
                 metric.metric_type, at, metric.dataset_size)
                for metric in metrics
            ],
        )  # fmt: skip


def find_version(
    connection: psycopg.Connection[Any], version: int, strategy_id: str = DEFAULT_STRATEGY
) -> VersionRecord:
    """Return the record of a version.

    Raises:
        UnknownVersionError: if the strategy has no such version.
    """
    query = f"{_VERSIONS} WHERE versions.strategy_id = %s AND versions.version = %s".encode()
    row = connection.execute(query, (strategy_id, f"v{version}")).fetchone()
    if row is None:
        raise UnknownVersionError(
            f"expected a version of strategy {strategy_id!r}, got v{version}, which is not registered",
            remedy=f"`surveillance models list{strategy_option(strategy_id)}` shows the versions",
        )
    return _record(row)


def strategy_option(strategy_id: str) -> str:
    """Return the option of ``surveillance models`` that selects a strategy; empty for the default."""
    return "" if strategy_id == DEFAULT_STRATEGY else f" --strategy {shlex.quote(strategy_id)}"


def list_versions(connection: psycopg.Connection[Any], strategy_id: str = DEFAULT_STRATEGY) -> list[VersionRecord]:
    """Return the versions of a strategy, newest first."""
    query = f"{_VERSIONS} WHERE versions.strategy_id = %s ORDER BY trained_at DESC, version DESC".encode()
    return [_record(row) for row in connection.execute(query, (strategy_id,))]


def find_bundle(connection: psycopg.Connection[Any], bundle_hash: str) -> StoredBundle:
    """Return the newest version of the bundle with the given hash or hash prefix.

    Raises:
        ValueError: if the prefix is too short.
        LookupError: if no registered bundle matches, or several do.
    """
    if len(bundle_hash) < MIN_HASH_CHARACTERS:
        raise ValueError(f"expected at least {MIN_HASH_CHARACTERS} characters of a bundle's hash, got {bundle_hash!r}")
    rows = connection.execute(
        "SELECT version, path, bundle_hash FROM surveillance.model_versions WHERE starts_with(bundle_hash, %s)"
        " ORDER BY trained_at DESC, version DESC",
        (bundle_hash,),
    ).fetchall()
    hashes = sorted({found for _, _, found in rows})
    if len(hashes) != 1:
        known = ", ".join(hashes) or "none"
        raise LookupError(f"expected one registered bundle with the hash prefix {bundle_hash!r}, found {known}")
    return stored_bundle(*rows[0])


def registered_bundles(connection: psycopg.Connection[Any]) -> list[tuple[StoredBundle, bool]]:
    """Return every registered bundle once, and whether it was ever deployed or served a queue."""
    rows = connection.execute(
        "SELECT DISTINCT ON (bundle_hash) version, path, bundle_hash,"
        " EXISTS (SELECT FROM surveillance.deployments WHERE model_id = versions.bundle_hash)"
        " OR EXISTS (SELECT FROM ops.served_bundles WHERE bundle_hash = versions.bundle_hash)"
        " FROM surveillance.model_versions AS versions ORDER BY bundle_hash, trained_at DESC, version DESC"
    ).fetchall()
    found = [(stored_bundle(*row[:3]), bool(row[3])) for row in rows]
    return sorted(found, key=lambda one: one[0].version)


def stored_bundle(version: str, path: str, bundle_hash: str) -> StoredBundle:
    """Return a bundle from the columns of a row."""
    return StoredBundle(int(version.removeprefix("v")), path, bundle_hash)


def _record(row: tuple[Any, ...]) -> VersionRecord:
    values = dict(zip(_VERSION_FIELDS, row, strict=True))
    return VersionRecord(**{**values, "path": Path(values["path"])})
