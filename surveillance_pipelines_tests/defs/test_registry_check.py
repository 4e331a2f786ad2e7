"""The check that the aliases in MLflow follow the deployments, over MLflow's own tables."""

from pathlib import Path
from typing import Any

import pytest

from surveillance_pipelines.defs.models.checks import registry_aliases_follow_deployments
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.lifecycle.deployments import Scope
from surveillance_pipelines.models.bundle import Bundle
from surveillance_pipelines.services.models import activate, deployment_history
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines.stores.predictors import champion_hash, load_predictor


@pytest.fixture
def registered(with_registry: PlatformResource, bundle: Bundle) -> PlatformResource:
    """Two versions in MLflow and on record, of which the first serves."""
    registry = with_registry.registry
    with with_registry.connect() as connection:
        for number in (1, 2):
            with registry.start_run(f"training {number}") as run:
                mlflow_version = registry.register_bundle(Path(bundle.path), run.run_id)
            version = ModelVersion(
                version=number, bundle_hash=bundle.bundle_hash, path=Path(bundle.path), training_duration_seconds=1.0,
                training_dataset_size=1, mlflow_version=mlflow_version, mlflow_run_id=run.run_id,
            )  # fmt: skip
            record_version(connection, version)
    assert activate(with_registry, 1, decided_by="test").alias_problem is None
    return with_registry


def check(platform: PlatformResource) -> Any:
    return registry_aliases_follow_deployments(platform)


def test_alias_moved_by_hand_is_reported_and_changes_nothing_that_serves(registered: PlatformResource):
    assert registered.registry.aliases() == {"champion": 1}
    assert check(registered).passed
    with registered.connect() as connection:
        before = champion_hash(connection, registered.settings), deployment_history(registered)

    registered.registry.set_alias("champion", 2)
    result = check(registered)
    assert not result.passed
    assert result.description is not None
    assert result.description.startswith("alias champion: expected MLflow version 1, found MLflow version 2. ")
    with registered.connect() as connection:
        assert (champion_hash(connection, registered.settings), deployment_history(registered)) == before
        assert load_predictor(connection, registered.settings).bundle_hash == before[0]

    assert activate(registered, 1, decided_by="test").change.opened == (), "the champion stays"
    assert registered.registry.aliases() == {"champion": 1}
    assert check(registered).passed


def test_alias_of_another_tenant_moved_by_hand_is_reported(registered: PlatformResource):
    scope = Scope(tenant="fund", strategy="surveillance")
    assert activate(registered, 2, decided_by="test", scope=scope).alias_problem is None
    assert check(registered).passed
    registered.registry.set_alias("champion-fund-surveillance", 1)
    assert (
        "alias champion-fund-surveillance: expected MLflow version 2, found MLflow version 1"
        in check(registered).description
    )
    activate(registered, 2, decided_by="test", scope=scope)
    assert check(registered).passed


def test_platform_without_versions_in_mlflow_passes_without_importing_it(platform: PlatformResource):
    assert check(platform).passed
