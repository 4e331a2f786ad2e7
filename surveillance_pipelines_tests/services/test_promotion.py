"""The role of a trained bundle after its comparison with the champion."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.lifecycle.deployments import Scope
from surveillance_pipelines.models.bundle import Bundle
from surveillance_pipelines.services.build_folder import BuildFolder, Registration
from surveillance_pipelines.services.models import activate, deploy, deployment_history
from surveillance_pipelines.services.promotion import Comparison, assign_role, compare_registered
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.deployments import open_deployments
from surveillance_pipelines_tests.services.test_models import FakeRegistry, add_version


@dataclass(frozen=True, slots=True)
class PromotionStores:
    """The stores of the use cases of this file: a real database, and aliases in memory."""

    connect: Callable[[], AbstractContextManager[psycopg.Connection]]
    registry: FakeRegistry
    settings: Settings
    models_path: Path
    clock: Clock = SYSTEM_CLOCK


@pytest.fixture
def stores(database_url: str, settings: Settings, bundle: Bundle) -> Any:
    with connect(database_url) as connection:
        for number in range(1, 5):
            add_version(connection, number, Path(bundle.path), bundle.bundle_hash)
    return PromotionStores(lambda: connect(database_url), FakeRegistry(), settings, Path(bundle.path).parent)


def trained(path: Path, bundle: Bundle, version: int) -> BuildFolder:
    folder = BuildFolder(path / f"run{version}")
    folder.save_registration(
        Registration(version, 10 + version, "run", bundle.bundle_hash, str(bundle.path), model_version_id="id")
    )
    return folder


def compared(folder: BuildFolder, champion_hash: str | None, *, passed: bool) -> BuildFolder:
    result = Comparison(
        champion="v1", champion_hash=champion_hash, requirement="better", passed=passed, reasons=("must be better",)
    )
    folder.save_facts("comparison", asdict(result))
    return folder


def roles(stores: Any) -> dict[str | None, str]:
    with stores.connect() as connection:
        return {row.version: row.role for row in open_deployments(connection, Scope())}


@pytest.mark.requirement("BEY-05")
def test_assign_role_of_a_better_bundle_is_champion(stores: Any, bundle: Bundle, tmp_path: Path):
    activate(stores, 1, decided_by="test")
    folder = compared(trained(tmp_path, bundle, 2), bundle.bundle_hash, passed=True)
    assigned = assign_role(stores, folder, run_id="r2")
    assert (assigned.role, roles(stores)) == ("champion", {"v1": "retired", "v2": "champion"})
    assert deployment_history(stores)[-2].reasons == ("passed the gate in run r2", "must be better")
    again = assign_role(stores, folder, run_id="r2")
    assert (again.role, again.deployed.change.opened) == ("champion", ())


@pytest.mark.requirement("BEY-05")
def test_assign_role_of_others_is_shadow_and_retires_the_shadow_before(stores: Any, bundle: Bundle, tmp_path: Path):
    activate(stores, 1, decided_by="test")
    deploy(stores, 4, role="shadow", decided_by="somebody")
    for version in (2, 3):
        folder = compared(trained(tmp_path, bundle, version), bundle.bundle_hash, passed=False)
        assert assign_role(stores, folder, run_id=f"r{version}").role == "shadow"
    assert roles(stores) == {"v1": "champion", "v2": "retired", "v3": "shadow", "v4": "shadow"}


def test_assign_role_after_another_promotion_is_shadow(stores: Any, bundle: Bundle, tmp_path: Path):
    activate(stores, 1, decided_by="test")
    assigned = assign_role(stores, compared(trained(tmp_path, bundle, 2), None, passed=True), run_id="r2")
    assert assigned.role == "shadow"
    assert assigned.reasons[0] == "the champion changed after the comparison with v1"


def test_compare_registered_without_a_champion_that_can_serve_requires_nothing(
    stores: Any, bundle: Bundle, tmp_path: Path
):
    folder = trained(tmp_path, bundle, 2)
    first = compare_registered(stores, folder)
    assert (first.passed, first.reasons) == (True, ("there is no champion to compare with",))
    activate(stores, 1, decided_by="test")
    same = compare_registered(stores, folder)
    assert (same.passed, same.reasons) == (True, ("equal in content to the champion v1",))
    with stores.connect() as connection:
        connection.execute("UPDATE surveillance.deployments SET model_id = repeat('0', 64) WHERE role = 'champion'")
    lost = compare_registered(stores, folder)
    assert (lost.requirement, lost.passed) == ("none", True)
    assert lost.reasons[0].startswith("the champion v1 cannot be loaded: ")
    assert Comparison.load(folder) == lost
