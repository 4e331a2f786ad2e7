"""The drift check belongs to every run of market data, so it must be light and must not stop one."""

import sys
from datetime import date
from typing import Any

import dagster as dg
import pytest

from surveillance_pipelines.defs.models.checks import features_do_not_drift
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.evaluation.drift_report import MIN_ROWS, DriftReport


@pytest.fixture(autouse=True)
def without_training_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "surveillance_pipelines.training.plots", None)


def check(platform: PlatformResource) -> dg.AssetCheckResult:
    result: Any = features_do_not_drift(platform)
    return result


def test_features_do_not_drift_without_a_champion_imports_nothing_heavy(platform: PlatformResource):
    result = check(platform)
    assert result.passed
    assert result.description == "no champion yet, so there is no training data to compare with"


@pytest.mark.parametrize(("index", "moved"), [(0.01, []), (0.9, ["rsi_14"])])
def test_features_do_not_drift_shows_the_index_of_every_feature(
    platform: PlatformResource, monkeypatch: pytest.MonkeyPatch, index: float, moved: list[str]
):
    report = DriftReport({"rsi_14": index}, moved, MIN_ROWS, date(2024, 3, 4), date(2024, 3, 10))
    monkeypatch.setattr("surveillance_pipelines.services.drift.champion_drift", lambda _platform: report)
    result = check(platform)
    assert result.passed is not bool(moved)
    shown: Any = result.metadata["indices"]
    assert [record.data for record in shown.records] == [{"feature": "rsi_14", "index": index}]
    assert ("drift" in result.metadata) is bool(moved)
    if moved:
        assert "the extra `train` is not installed" in str(result.metadata["drift"].value)
