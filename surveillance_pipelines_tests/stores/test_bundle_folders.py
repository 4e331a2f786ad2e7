"""Folders of bundles in a home that was copied or moved."""

import shutil
from pathlib import Path

import pytest

from surveillance_pipelines.models.bundle import BundleError, load_bundle
from surveillance_pipelines.stores.bundle_folders import bundle_folder, stored_path
from surveillance_pipelines_tests.training.tiny_bundle import build_tiny_bundle


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> tuple[Path, str]:
    """A home with one bundle, ``v1``, and its hash."""
    home = tmp_path_factory.mktemp("original")
    (home / "demo.json").touch()
    return home, build_tiny_bundle(home / "models" / "v1")


def test_bundle_in_the_models_folder_is_recorded_by_its_name(home):
    models = home[0] / "models"
    assert stored_path(models, models / "v1") == Path("v1")
    assert stored_path(models, Path("/elsewhere/v1")) == Path("/elsewhere/v1")


@pytest.mark.parametrize("recorded", ["v1", "{original}/models/v1"])
def test_copied_home_uses_its_own_bundle(home, tmp_path, recorded):
    original, bundle_hash = home
    shutil.copytree(original, tmp_path / "copy")
    folder = bundle_folder(tmp_path / "copy" / "models", recorded.format(original=original), bundle_hash)
    assert folder == tmp_path / "copy" / "models" / "v1"


def test_copied_home_without_its_bundle_does_not_use_the_original(home, tmp_path):
    original, bundle_hash = home
    models = tmp_path / "copy" / "models"
    folder = bundle_folder(models, original / "models" / "v1", bundle_hash)
    assert folder == models / "v1"
    with pytest.raises(BundleError, match="expected a bundle folder"):
        load_bundle(folder, expected_hash=bundle_hash)


def test_renamed_folder_is_found_by_its_hash(home, tmp_path):
    original, bundle_hash = home
    shutil.copytree(original / "models" / "v1", tmp_path / "v7")
    assert bundle_folder(tmp_path, "v1", bundle_hash) == tmp_path / "v7"


def test_bundle_outside_of_every_home_is_used_where_it_is(home, tmp_path):
    original, bundle_hash = home
    shutil.copytree(original / "models" / "v1", tmp_path / "shared" / "best")
    assert bundle_folder(tmp_path / "models", tmp_path / "shared" / "best", bundle_hash) == tmp_path / "shared" / "best"
