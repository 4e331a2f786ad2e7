"""The model registry on MLflow's own tables in a real PostgreSQL."""

import json
from pathlib import Path

import pytest

from surveillance_pipelines.stores.registry import ModelRegistry


@pytest.fixture
def registry(mlflow_uri: str, tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(mlflow_uri, str(tmp_path / "artifacts"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"files": {}}))
    return folder


def test_start_run_keeps_parameters_metrics_tags_and_files(
    registry: ModelRegistry, bundle: Path, tmp_path: Path
) -> None:
    many = {f"p{number}": number for number in range(250)}
    with registry.start_run("train", params={"seed": 7, "days": ["2022-03-21"], **many}, tags={"data": "v3"}) as run:
        run.log_metrics({"loss": 0.5})
        run.log_metrics({"loss": 0.25}, step=1)
        run.log_artifact(bundle)
    kept = registry._client.get_run(run.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.data.params["seed"] == "7"
    assert kept.data.params["days"] == '["2022-03-21"]'
    assert len(kept.data.params) == 252
    assert kept.data.tags["data"] == "v3"
    assert [point.value for point in registry._client.get_metric_history(run.run_id, "loss")] == [0.5, 0.25]
    assert kept.info.artifact_uri is not None
    artifacts = Path(kept.info.artifact_uri.removeprefix("file://"))
    assert artifacts.is_relative_to(tmp_path / "artifacts")
    assert json.loads((artifacts / "bundle" / "manifest.json").read_text()) == {"files": {}}


def test_start_run_error_marks_the_run_failed_and_goes_on(registry: ModelRegistry) -> None:
    with pytest.raises(ZeroDivisionError), registry.start_run("train") as run:
        _ = 1 / 0
    assert registry._client.get_run(run.run_id).info.status == "FAILED"


@pytest.mark.requirement("TRN-07", "TRN-08")
def test_register_bundle_numbers_versions_and_aliases_move(registry: ModelRegistry, bundle: Path) -> None:
    assert registry.aliases().get("champion") is None
    versions = []
    for name in ("first", "second"):
        with registry.start_run(name) as run:
            versions.append(registry.register_bundle(bundle, run.run_id, {"bundle_hash": "abc"}))
            assert registry.register_bundle(bundle, run.run_id) == versions[-1]
    assert versions == [1, 2]
    registry.set_alias("champion", 1)
    registry.set_alias("challenger", 2)
    assert (registry.aliases().get("champion"), registry.aliases().get("challenger")) == (1, 2)
    registry.set_alias("champion", 2)
    assert registry.aliases().get("champion") == 2
    assert registry.aliases().get("shadow") is None


def test_set_alias_unknown_version_is_refused(registry: ModelRegistry, bundle: Path) -> None:
    from mlflow.exceptions import MlflowException

    with registry.start_run("only") as run:
        registry.register_bundle(bundle, run.run_id)
    with pytest.raises(MlflowException, match="9"):
        registry.set_alias("champion", 9)
    assert registry.aliases().get("champion") is None


def test_start_run_database_without_artifact_root_says_what_to_do(mlflow_uri: str) -> None:
    with pytest.raises(ValueError, match="mlflow_artifact_root"), ModelRegistry(mlflow_uri).start_run("train"):
        pass
