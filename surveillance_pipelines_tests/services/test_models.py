"""Use cases of models, with MLflow's own tables beside the deployments."""

from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from surveillance_pipelines.lifecycle.deployments import Scope, TransitionError
from surveillance_pipelines.models.bundle import Bundle, BundleError
from surveillance_pipelines.services.models import (
    activate,
    alias_differences,
    deploy,
    deployment_history,
    repair_aliases,
    retire,
    versions,
)
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.deployments import champion
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines_tests.services.model_stores import ModelStores


@dataclass
class FakeRegistry:
    """Aliases in memory; ``broken`` answers nothing."""

    set: dict[str, int] = field(default_factory=dict)
    broken: bool = False

    def aliases(self) -> dict[str, int]:
        if self.broken:
            raise ConnectionError("MLflow does not answer")
        return dict(self.set)

    def set_alias(self, alias: str, version: int) -> None:
        self.set[alias] = version

    def delete_alias(self, alias: str) -> None:
        del self.set[alias]


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def stores(database_url: str, registry: FakeRegistry, bundle: Bundle) -> ModelStores:
    """Three versions of one bundle; their MLflow versions are 11, 12 and 13."""
    with connect(database_url) as connection:
        for number in (1, 2, 3):
            add_version(connection, number, Path(bundle.path), bundle.bundle_hash)
    return ModelStores(lambda: connect(database_url), registry, Path(bundle.path).parent)


def add_version(connection: psycopg.Connection, number: int, path: Path, bundle_hash: str) -> None:
    version = ModelVersion(
        version=number, bundle_hash=bundle_hash, path=path, training_duration_seconds=1.0, training_dataset_size=1,
        mlflow_version=10 + number,
    )  # fmt: skip
    record_version(connection, version)


def serving(stores: ModelStores) -> int | None:
    with stores.connect() as connection:
        found = champion(connection)
    return None if found is None else found.version


def test_activate_sets_the_champion_and_its_alias(stores: ModelStores, registry: FakeRegistry):
    first = activate(stores, 1, decided_by="test")
    assert (first.replaced, first.alias_problem, registry.set) == (None, None, {"champion": 11})
    second = activate(stores, 2, decided_by="test", reasons=["better"])
    assert second.replaced is not None
    assert (second.replaced.name, serving(stores), registry.set) == ("v1", 2, {"champion": 12})
    listed = {row.version.version: row.deployment and row.deployment.role for row in versions(stores)}
    assert listed == {"v3": None, "v2": "champion", "v1": "retired"}
    with stores.connect() as connection:
        views = connection.execute("SELECT DISTINCT feature_view FROM surveillance.deployments").fetchall()
    assert views == [("core_v1",)]


def test_activate_the_champion_changes_no_row(stores: ModelStores):
    activate(stores, 1, decided_by="test")
    before = deployment_history(stores)
    again = activate(stores, 1, decided_by="somebody else")
    assert again.change.opened == ()
    assert deployment_history(stores) == before


def test_activate_version_whose_bundle_is_gone_is_refused(stores: ModelStores, tmp_path: Path):
    with stores.connect() as connection:
        add_version(connection, 4, tmp_path / "gone", "0" * 64)
    activate(stores, 1, decided_by="test")
    with pytest.raises(BundleError, match="expected a bundle folder"):
        activate(stores, 4, decided_by="test")
    with pytest.raises(LookupError, match="got v9"):
        activate(stores, 9, decided_by="test")
    assert serving(stores) == 1


def test_roles_beside_the_champion_have_aliases_until_they_are_retired(stores: ModelStores, registry: FakeRegistry):
    activate(stores, 1, decided_by="test")
    deploy(stores, 2, role="challenger", traffic_share=0.1, decided_by="test")
    deploy(stores, 3, role="shadow", decided_by="test")
    assert registry.set == {"champion": 11, "challenger": 12, "shadow": 13}
    retire(stores, 2, decided_by="test")
    activate(stores, 3, decided_by="test")
    assert registry.set == {"champion": 13}


def test_retire_the_champion_only_if_no_champion_is_wanted(stores: ModelStores, registry: FakeRegistry):
    activate(stores, 1, decided_by="test")
    with pytest.raises(TransitionError, match="promote another version instead"):
        retire(stores, 1, decided_by="test")
    retire(stores, 1, decided_by="test", leave_no_champion=True)
    assert (serving(stores), registry.set) == (None, {})


def test_other_tenants_have_aliases_of_their_own(stores: ModelStores, registry: FakeRegistry):
    activate(stores, 1, decided_by="test")
    activate(stores, 2, decided_by="test", scope=Scope(tenant="acme inc"))
    assert registry.set == {"champion": 11, "champion-acme_20_inc-surveillance": 12}
    assert alias_differences(stores) == []


def test_registry_that_does_not_answer_stops_no_activation_and_is_repaired_by_the_next(
    stores: ModelStores, registry: FakeRegistry
):
    registry.broken = True
    done = activate(stores, 1, decided_by="test")
    assert (done.alias_problem, serving(stores)) == ("ConnectionError: MLflow does not answer", 1)
    registry.broken = False
    assert [str(difference) for difference in alias_differences(stores)] == [
        "alias champion: expected MLflow version 11, found none"
    ]
    assert activate(stores, 1, decided_by="test").alias_problem is None
    assert registry.set == {"champion": 11}


def test_versions_outside_mlflow_ask_no_registry(database_url: str, bundle: Bundle):
    with connect(database_url) as connection:
        record_version(connection, ModelVersion(
            version=1, bundle_hash=bundle.bundle_hash, path=Path(bundle.path), training_duration_seconds=1.0,
            training_dataset_size=1,
        ))  # fmt: skip
    stores = ModelStores(lambda: connect(database_url), FakeRegistry(broken=True), bundle.path.parent)
    assert activate(stores, 1, decided_by="test").alias_problem is None


def test_alias_moved_by_hand_is_reported_and_decides_nothing(stores: ModelStores, registry: FakeRegistry):
    activate(stores, 1, decided_by="test")
    before = deployment_history(stores)
    registry.set["champion"] = 12
    registry.set["shadow"] = 13
    assert [str(difference) for difference in alias_differences(stores)] == [
        "alias champion: expected MLflow version 11, found MLflow version 12",
        "alias shadow: expected none, found MLflow version 13",
    ]
    assert (serving(stores), deployment_history(stores)) == (1, before)
    assert len(repair_aliases(stores)) == 2
    assert (registry.set, repair_aliases(stores)) == ({"champion": 11}, [])
