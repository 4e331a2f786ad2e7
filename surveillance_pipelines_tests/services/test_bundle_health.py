"""Damaged bundles, of the champion and of others: ``doctor`` names the file and where an intact copy goes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from surveillance_pipelines.models.bundle import CONFIG_FILE, MANIFEST_FILE
from surveillance_pipelines.models.classifier import MODEL_FILE
from surveillance_pipelines.services.doctor import check_bundles, check_models
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.deployments import deploy_version
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines_tests.models.edited_bundles import edit_json, write_v2


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "expected a bundle folder at {folder}, found none"),
    "no manifest": (lambda folder: (folder / MANIFEST_FILE).unlink(), "expected a plain file manifest.json"),
    "no model": (lambda folder: (folder / MODEL_FILE).unlink(), f"missing ['{MODEL_FILE}']"),
    "cut off": (lambda folder: (folder / MODEL_FILE).write_bytes(b"x"), "bytes in {folder}/" + MODEL_FILE),
    "changed byte": (lambda folder: flip(folder / MODEL_FILE), "of {folder}/" + MODEL_FILE),
    "another manifest": (
        lambda folder: edit_json(folder, CONFIG_FILE, lambda value: value.update(v=0)),
        "expected bundle ",
    ),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, str]]:
    """Return a models folder with three bundles, and version → hash."""
    models = tmp_path_factory.mktemp("models")
    hashes: dict[int, str] = {}
    for version in (1, 2, 3):
        path = write_v2(models / f"v{version}")
        hashes[version] = edit_json(path, CONFIG_FILE, lambda value, v=version: value.update(v=v))
    return models, hashes


@pytest.fixture
def platform(settings: Settings, bundles: tuple[Path, dict[int, str]]) -> Platform:
    """Version 1 was deployed, 2 never, 3 is the champion."""
    platform = Platform(settings)
    shutil.copytree(bundles[0], platform.models_path)
    with platform.connect() as connection:
        for version, bundle_hash in bundles[1].items():
            record_version(connection, ModelVersion(
                version=version, bundle_hash=bundle_hash, path=Path(f"v{version}"), training_duration_seconds=1.0,
                training_dataset_size=1,
            ))  # fmt: skip
            if version != 2:
                deploy_version(connection, version, decided_by="test")
    return platform


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("version", "verdict"), [(1, "fail"), (2, "warn"), (3, "fail")])
def test_damaged_bundle_is_named_with_what_repairs_it(
    platform: Platform, bundles: tuple[Path, dict[int, str]], version: int, verdict: str, damage: str
) -> None:
    folder = platform.models_path / f"v{version}"
    change, says = DAMAGES[damage]
    change(folder)
    found = [fact for check in (check_models, check_bundles) for fact in check(platform) if fact.verdict != "ok"]
    (fact,) = found
    assert (fact.name, fact.verdict) == ("models" if version == 3 else "bundles", verdict)
    assert f"v{version} {bundles[1][version][:12]}" in fact.found
    assert says.format(folder=folder) in fact.found
    assert f"restore {folder} from a backup" in fact.remedy
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundles[0] / f"v{version}", folder)
    assert [fact.verdict for check in (check_models, check_bundles) for fact in check(platform)] == ["ok", "ok"]
