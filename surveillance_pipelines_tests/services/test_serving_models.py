"""What status, doctor, check and sensor say about a champion that cannot be loaded."""

from pathlib import Path

import dagster as dg
import pytest

from surveillance_pipelines.defs.models.checks import champion_can_serve
from surveillance_pipelines.services.doctor import check_models
from surveillance_pipelines.services.health import check_health
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.services.serving_models import serving_models
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle


@pytest.fixture
def platform(settings) -> Platform:
    return Platform(settings)


def promote(platform: Platform, version: int, bundle_hash: str) -> None:
    model = ModelVersion(
        version=version, bundle_hash=bundle_hash, path=Path(f"v{version}"), training_duration_seconds=1.0,
        training_dataset_size=1,
    )  # fmt: skip
    with platform.connect() as connection:
        record_version(connection, model)
        deploy_version(connection, version, decided_by="test")


def found(platform: Platform):
    with platform.connect() as connection:
        return serving_models(platform, connection)


def test_intact_champion_serves(platform):
    bundle_hash = build_tiny_bundle(platform.models_path / "v1")
    promote(platform, 1, bundle_hash)
    models = found(platform)
    assert (models.is_damaged, models.serves) == (False, f"v1 {bundle_hash[:12]}")


def test_damaged_champion_is_named_with_the_version_that_serves(platform):
    promote(platform, 1, build_tiny_bundle(platform.models_path / "v1"))
    promote(platform, 2, "0" * 64)
    models = found(platform)
    assert "v2 000000000000 cannot be loaded (expected a bundle folder" in models.sentence
    assert "served instead: v1" in models.sentence
    assert "surveillance models activate v1" in models.remedy


def test_sole_damaged_champion_is_told_by_status_doctor_and_check(platform):
    promote(platform, 1, "0" * 64)
    (champion,) = [line for line in check_health(platform).lines if line.name == "champion"]
    (finding,) = check_models(platform)
    assert (champion.verdict, finding.verdict) == ("warn", "fail")
    for text in (champion.found, finding.found):
        assert "served instead: the warm-up rules" in text
    result = champion_can_serve(platform)
    assert isinstance(result, dg.AssetCheckResult)
    assert not result.passed
    assert "served instead: the warm-up rules" in str(result.description)


def test_without_rules_nothing_serves_and_that_is_a_failure(settings):
    platform = Platform(settings.model_copy(update={"warmup_mode_enabled": False}))
    promote(platform, 1, "0" * 64)
    assert found(platform).serves is None
    (champion,) = [line for line in check_health(platform).lines if line.name == "champion"]
    assert (champion.verdict, "drain runs fail" in champion.found) == ("fail", True)
