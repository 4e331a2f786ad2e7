"""Freezes a trained bundle and registers it in MLflow and PostgreSQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surveillance_pipelines.services.build_folder import BuildFolder, Registration
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    from surveillance_pipelines.models.bundle import Bundle


@dataclass(frozen=True, slots=True)
class RegisteredBundle:
    """A registered version, and its bundle as loaded from the frozen folder, with all hashes verified."""

    registration: Registration
    bundle: "Bundle"


def freeze_and_register(stores: Stores, folder: BuildFolder, *, dagster_run_id: str) -> RegisteredBundle:
    """Register the bundle of a run in MLflow, freeze it as ``v{n}``, and record the version in PostgreSQL.

    Args:
        stores: settings, database and model registry.
        folder: folder of the run, with its training set, bundle and plots.
        dagster_run_id: id of the run, stored with the MLflow run.

    Raises:
        FileNotFoundError: if the folder has no bundle or no facts of the training.
        BundleError: if the bundle is damaged, a file asks for more memory than it accounts for, or the frozen bundle
            differs from it.
    """
    from surveillance_pipelines.models.bundle import copy_bundle, load_bundle
    from surveillance_pipelines.models.declared_sizes import check_file
    from surveillance_pipelines.stores.bundle_folders import stored_path
    from surveillance_pipelines.stores.model_store import ModelVersion, next_version, record_version
    from surveillance_pipelines.training.training_data import TrainingSet

    bundle = load_bundle(folder.require(folder.bundle))
    for name, content in bundle.files.items():
        check_file(name, content)
    seconds = folder.facts("training")["seconds"]
    mlflow_run_id, mlflow_version = _register(stores, folder, bundle.bundle_hash, dagster_run_id)
    models_path = stores.settings.models_path
    with stores.connect() as connection:
        version = next_version(connection, models_path)
    frozen = copy_bundle(folder.bundle, models_path / f"v{version}")
    model = ModelVersion(
        version=version,
        bundle_hash=bundle.bundle_hash,
        path=stored_path(models_path, frozen),
        training_duration_seconds=seconds,
        training_dataset_size=TrainingSet.load(folder.training_set).rows("train", labelled=True).height,
        mlflow_version=mlflow_version,
        mlflow_run_id=mlflow_run_id,
    )
    with stores.connect() as connection:
        identity = record_version(connection, model, clock=stores.clock)
    registration = Registration(
        version, mlflow_version, mlflow_run_id, bundle.bundle_hash, str(frozen), model_version_id=str(identity)
    )
    folder.save_registration(registration)
    return RegisteredBundle(registration, load_bundle(frozen, expected_hash=bundle.bundle_hash))


def _register(stores: Stores, folder: BuildFolder, bundle_hash: str, dagster_run_id: str) -> tuple[str, int]:
    """Create an MLflow run and model version for a build; return the run id and the version number."""
    training, data = folder.facts("training"), folder.facts("data")
    tags = {"dagster_run_id": dagster_run_id, "bundle_hash": bundle_hash, **_flat(data)}
    registry = stores.registry
    with registry.start_run(f"training {dagster_run_id[:8]}", _flat(training["parameters"]), tags) as run:
        run.log_metrics({"training_seconds": training["seconds"]})
        run.log_artifact(folder.figures, "figures")
        mlflow_version = registry.register_bundle(folder.bundle, run.run_id, {"bundle_hash": bundle_hash})
    return run.run_id, mlflow_version


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested facts to dotted names with text values, because MLflow stores only text."""
    out: dict[str, str] = {}
    for name, value in nested.items():
        key = f"{prefix}{name}"
        out |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: str(value)}
    return out
