"""Registration of a bundle in MLflow, the database and its frozen folder, and of its evaluation."""

import math
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from surveillance_pipelines.defs.models.build_folder import BuildFolder, Registration
from surveillance_pipelines.defs.resources import PlatformResource

if TYPE_CHECKING:
    from surveillance_pipelines.training.report import Evaluation


def freeze_and_register(folder: BuildFolder, platform: PlatformResource, *, dagster_run_id: str) -> Registration:
    """Register the bundle of a build in MLflow, freeze it as ``v{n}``, and record the version in PostgreSQL."""
    from surveillance_pipelines.models.bundle import copy_bundle, load_bundle
    from surveillance_pipelines.stores.model_store import ModelVersion, next_version, record_version
    from surveillance_pipelines.training.training_data import TrainingSet

    bundle = load_bundle(folder.require(folder.bundle))
    seconds = folder.facts("training")["seconds"]
    mlflow_run_id, mlflow_version = _register(folder, platform, bundle.bundle_hash, dagster_run_id)
    models_path = platform.settings.models_path
    with platform.connect() as connection:
        version = next_version(connection, models_path)
    frozen = copy_bundle(folder.bundle, models_path / f"v{version}")
    model = ModelVersion(
        version=version,
        bundle_hash=bundle.bundle_hash,
        path=frozen,
        training_duration_seconds=seconds,
        training_dataset_size=TrainingSet.load(folder.training_set).rows("train", labelled=True).height,
        mlflow_version=mlflow_version,
        mlflow_run_id=mlflow_run_id,
    )
    with platform.connect() as connection:
        identity = record_version(connection, model, clock=platform.clock)
    registered = Registration(
        version, mlflow_version, mlflow_run_id, bundle.bundle_hash, str(frozen), model_version_id=str(identity)
    )
    folder.save_registration(registered)
    return registered


def record_verdict(folder: BuildFolder, platform: PlatformResource, verdict: "Evaluation") -> None:
    """Record the metrics of an evaluation in PostgreSQL and MLflow."""
    from surveillance_pipelines.stores.model_store import QualityMetric, record_metrics

    registered = folder.registration()
    measures = [measure for measure in verdict.measures if math.isfinite(measure.value)]
    metrics = [
        QualityMetric(
            name=measure.key, value=measure.value, model=measure.model, split=verdict.split, dataset_size=measure.rows
        )
        for measure in measures
    ]
    with platform.connect() as connection:
        record_metrics(connection, uuid.UUID(registered.model_version_id), metrics, platform.clock)
    run = platform.registry.run(registered.mlflow_run_id)
    run.log_metrics({f"{verdict.split}_{name}": value for name, value in _finite(verdict.metrics).items()})
    run.log_artifact(folder.figures, "figures")


def _register(
    folder: BuildFolder, platform: PlatformResource, bundle_hash: str, dagster_run_id: str
) -> tuple[str, int]:
    """Create an MLflow run and model version for a build; return the run id and the version number."""
    training, data = folder.facts("training"), folder.facts("data")
    tags = {"dagster_run_id": dagster_run_id, "bundle_hash": bundle_hash, **_flat(data)}
    registry = platform.registry
    with registry.start_run(f"training {dagster_run_id[:8]}", _flat(training["parameters"]), tags) as run:
        run.log_metrics({"training_seconds": training["seconds"]})
        run.log_artifact(folder.figures, "figures")
        mlflow_version = registry.register_bundle(folder.bundle, run.run_id, {"bundle_hash": bundle_hash})
    return run.run_id, mlflow_version


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested facts to dotted names with text values, because MLflow stores only text."""
    out: dict[str, str] = {}
    for name, value in nested.items():
        key = f"{prefix}{name}"
        out |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: str(value)}
    return out
