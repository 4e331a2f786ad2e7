"""Model versions: their records in PostgreSQL, their frozen bundles on disk, and which one is active."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now

MetricType = Literal["classification", "regression", "trading_performance"]
DEFAULT_STRATEGY = "surveillance"


MIN_HASH_CHARACTERS: Final = 8
"""Of a bundle's hash, to name it by: 32 bits tell the versions of one platform apart."""


class StoredBundle(NamedTuple):
    """A bundle on record: what the live lane and batch scoring load."""

    version: int
    path: str
    bundle_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One trained bundle. ``version`` is the number of its folder ``v{version}``."""

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
class QualityMetric:
    """One figure of an evaluation."""

    name: str
    value: float
    model: str
    split: str
    dataset_size: int
    metric_type: MetricType = "classification"


def next_version(connection: psycopg.Connection[Any], models_path: Path) -> int:
    """Return the number after the highest one on record or among the folders ``v{n}``; the first is 1.

    Both count: a crash can leave a folder without a record, and a lost disk records without folders.
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
    """Write a version, inactive, with its metrics, and return its id.

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
    """Add figures of an evaluation to a version."""
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


def promote(
    connection: psycopg.Connection[Any],
    version: int,
    *,
    feature_view: str,
    reason: str,
    strategy_id: str = DEFAULT_STRATEGY,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Make a version the active one of its strategy, deactivate the one before, and note it in the timeline.

    Raises:
        LookupError: if the strategy has no such version.
    """
    at = now(clock)
    connection.execute(
        "UPDATE surveillance.model_versions SET is_active = false, updated_at = %s"
        " WHERE strategy_id = %s AND is_active AND version <> %s",
        (at, strategy_id, f"v{version}"),
    )
    row = connection.execute(
        "UPDATE surveillance.model_versions SET is_active = true, updated_at = %s"
        " WHERE strategy_id = %s AND version = %s RETURNING bundle_hash, path",
        (at, strategy_id, f"v{version}"),
    ).fetchone()
    if row is None:
        raise LookupError(f"expected version v{version} of strategy {strategy_id!r}, found none: train it first")
    connection.execute(
        "INSERT INTO ops.bundle_timeline (version, bundle_hash, path, feature_view, promoted_at, reason)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (version, *row, feature_view, at, reason),
    )


def active_bundle(connection: psycopg.Connection[Any], strategy_id: str = DEFAULT_STRATEGY) -> StoredBundle | None:
    """Return the champion of a strategy; None while no model has passed the gate."""
    row = connection.execute(
        "SELECT version, path, bundle_hash FROM surveillance.model_versions WHERE strategy_id = %s AND is_active",
        (strategy_id,),
    ).fetchone()
    return None if row is None else _stored(*row)


def find_bundle(connection: psycopg.Connection[Any], bundle_hash: str) -> StoredBundle:
    """Return the newest version whose bundle hash is, or begins with, the one given.

    Raises:
        ValueError: if it is too short to name a bundle.
        LookupError: if no version on record has such a hash, or several bundles have.
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
        raise LookupError(f"expected one bundle on record with a hash that begins {bundle_hash!r}, found {known}")
    return _stored(*rows[0])


def _stored(version: str, path: str, bundle_hash: str) -> StoredBundle:
    return StoredBundle(int(version.removeprefix("v")), path, bundle_hash)


def bundle_paths(connection: psycopg.Connection[Any], bundle_hash: str) -> list[Path]:
    """Return the folders that a bundle was registered in or promoted from, newest first; empty for an unknown hash."""
    rows = connection.execute(
        "SELECT path FROM surveillance.model_versions WHERE bundle_hash = %(hash)s"
        " UNION SELECT path FROM ops.bundle_timeline WHERE bundle_hash = %(hash)s ORDER BY path DESC",
        {"hash": bundle_hash},
    )
    return [Path(path) for (path,) in rows]
