"""The asset of canary runs: its checks, its table and its plot."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.canaries.checks import CHECKS
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.services import canaries
from surveillance_pipelines.services.canary_promises import measure_promise, promise_metrics
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines_tests.defs.conftest import FIRST, LAST
from surveillance_pipelines_tests.defs.runs import check_of, metadata_of, run_job


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy of full size, and a lake that is read around its last day, which is years ago."""
    monkeypatch.setattr(canaries, "EVENTS", 1)
    monkeypatch.setattr(canaries, "THIRDS", 0)


def severity(result: dg.ExecuteInProcessResult, name: str) -> tuple[bool, dg.AssetCheckSeverity]:
    check = check_of(result, name)
    return check.passed, check.severity


def test_canaries_job_without_bars_warns_and_does_not_fail(platform: PlatformResource, instance: dg.DagsterInstance):
    result = run_job("canaries_job", platform, instance)
    assert result.success
    assert metadata_of(result, "canaries")["dagster/row_count"] == 0
    assert {severity(result, spec.name) for spec in CHECKS} == {(False, dg.AssetCheckSeverity.WARN)}


@pytest.mark.requirement("BEY-06")
def test_canaries_job_shows_detection_per_kind_against_the_promise(
    platform: PlatformResource,
    landed: Lake,
    simulated_bars: pl.DataFrame,
    simulated_sessions: pl.DataFrame,
    bundle_path: Path,
    instance: dg.DagsterInstance,
):
    run_job("market_data_job", platform, instance, tags=range_tags(FIRST, LAST))
    ensemble = Ensemble(load_bundle(bundle_path))
    sessions = SessionTable.from_frame(simulated_sessions)
    promise = measure_promise(simulated_bars, [LAST], sessions, ensemble, platform.settings, seed=1)
    model = ModelVersion(
        version=1, bundle_hash=ensemble.bundle_hash, path=bundle_path, training_duration_seconds=1.0,
        training_dataset_size=1,
    )  # fmt: skip
    with platform.connect() as connection:
        record_version(connection, model, promise_metrics(promise, "test"))
        deploy_version(connection, 1, feature_view=ensemble.feature_view, decided_by="test")
    result = run_job("canaries_job", platform, instance)
    figures = metadata_of(result, "canaries")
    table = [record.data for record in figures["detection"].records]
    assert sum(int(row["detected"].split(" of ")[1]) for row in table) == figures["dagster/row_count"] > 0
    assert all(row["promised"] is not None and row["kept"] for row in table)
    assert figures["day"] == str(LAST)
    assert figures["detection_per_kind"].startswith("![detection per kind](data:image/png;base64,")
    assert [check_of(result, spec.name).passed for spec in CHECKS] == [True, True, True]
