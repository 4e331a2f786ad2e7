import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.bundle import (
    CONFIG_FILE,
    MANIFEST_FILE,
    BundleError,
    copy_bundle,
    load_bundle,
    write_bundle,
)
from surveillance_pipelines.models.classifier import MODEL_FILE
from surveillance_pipelines.models.contract import InputSpec, OutputSpec
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.members import MemberSpec
from surveillance_pipelines.training.bundle_training import save_bundle, train_bundle
from surveillance_pipelines.training.deadline import Deadline
from surveillance_pipelines_tests.training.tiny_bundle import TINY_CONFIGS, tiny_training_set

CONTENTS: dict[str, bytes] = {"toy.onnx": b"{}", "toy.json": b"{}"}
MEMBER = MemberSpec(
    name="toy",
    kind="toy",
    version="1",
    files=tuple(CONTENTS),
    file_hashes=("", ""),
    input=InputSpec("core_v1", ("log_return",)),
    output=OutputSpec("anomaly_score"),
)


def write(path: Path, contents=CONTENTS, members=(MEMBER,), view=CORE_V1) -> str:
    return write_bundle(path, contents, members, view=view, reference={}, settings={}, training={})


@pytest.fixture
def copied(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "copy"))


def edit_manifest(path: Path, change) -> None:
    manifest = json.loads((path / MANIFEST_FILE).read_text())
    change(manifest)
    (path / MANIFEST_FILE).write_text(json.dumps(manifest))


@pytest.mark.requirement("FE-02", "TRN-07")
def test_load_bundle_of_a_written_folder_returns_its_content(bundle_path):
    bundle = load_bundle(bundle_path)
    assert bundle.view is CORE_V1
    assert bundle.model_columns == CORE_V1.model_columns
    assert [member.name for member in bundle.members] == ["tail_detector", "autoencoder", "classifier", "direction"]
    assert [member.serves for member in bundle.members] == [True, True, True, False]
    assert load_bundle(bundle_path, expected_hash=bundle.bundle_hash).bundle_hash == bundle.bundle_hash


def test_load_bundle_with_one_changed_byte_is_refused(copied):
    path = copied / MODEL_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"sha256 .* damaged"):
        load_bundle(copied)


def test_load_bundle_with_a_changed_size_is_refused(copied):
    with (copied / CONFIG_FILE).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match="bytes in"):
        load_bundle(copied)


def test_load_bundle_with_an_extra_file_is_refused(copied):
    (copied / "model.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(BundleError, match=r"extra \['model.pkl'\]"):
        load_bundle(copied)


def test_load_bundle_with_a_missing_file_is_refused(copied):
    (copied / CONFIG_FILE).unlink()
    with pytest.raises(BundleError, match=r"missing \['market_surveillance_config.json'\]"):
        load_bundle(copied)


def test_load_bundle_with_a_symlinked_file_is_refused(copied, bundle_path):
    (copied / CONFIG_FILE).unlink()
    (copied / CONFIG_FILE).symlink_to(bundle_path / CONFIG_FILE)
    with pytest.raises(BundleError, match="links or folders"):
        load_bundle(copied)


def test_load_bundle_through_a_symlinked_folder_is_refused(bundle_path, tmp_path):
    (tmp_path / "link").symlink_to(bundle_path)
    with pytest.raises(BundleError, match="expected a bundle folder"):
        load_bundle(tmp_path / "link")


def test_load_bundle_whose_manifest_names_a_path_outside_is_refused(copied):
    edit_manifest(copied, lambda manifest: manifest["files"].update({"../../secret": {"sha256": "", "size": 0}}))
    with pytest.raises(BundleError, match="manifest"):
        load_bundle(copied)


def test_load_bundle_of_another_format_is_refused(copied):
    edit_manifest(copied, lambda manifest: manifest.update(format=3))
    with pytest.raises(BundleError, match=r"expected bundle format 1 or 2 .* got 3"):
        load_bundle(copied)


def test_load_bundle_with_an_edited_manifest_has_another_hash(copied, bundle):
    edit_manifest(copied, lambda manifest: manifest["training"].update(seed=99))
    with pytest.raises(BundleError, match="expected bundle"):
        load_bundle(copied, expected_hash=bundle.bundle_hash)


@pytest.mark.requirement("MOD-02")
def test_load_bundle_trained_on_other_feature_code_is_refused(tmp_path):
    other = tmp_path / "kernel.py"
    other.write_text("# another kernel")
    write(tmp_path / "v1", view=replace(CORE_V1, source=other))
    with pytest.raises(BundleError, match=r"feature view core_v1 .* retrain"):
        load_bundle(tmp_path / "v1")


def test_load_bundle_for_a_replay_accepts_other_code_of_its_view(copied, bundle):
    edit_manifest(copied, lambda manifest: manifest.update(feature_view_source_hash="of another release"))
    with pytest.raises(BundleError, match="retrain, or run the release"):
        load_bundle(copied)
    assert load_bundle(copied, any_view_code=True).files == bundle.files


def test_write_bundle_to_an_existing_folder_is_refused(tmp_path):
    with pytest.raises(FileExistsError, match="next version"):
        write(tmp_path)


def test_write_bundle_with_a_file_too_few_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected the members' files"):
        write(tmp_path / "v1", {"toy.onnx": b"{}"})


@pytest.mark.parametrize("name", ["../toy.onnx", "toy.pkl", "Toy.onnx", ".onnx", "toy"])
def test_write_bundle_with_an_odd_file_name_is_refused(tmp_path, name):
    member = replace(MEMBER, files=(name,), file_hashes=("",))
    with pytest.raises(ValueError, match="plain names"):
        write(tmp_path / "v1", {name: b"{}"}, (member,))


def test_load_bundle_with_a_member_of_an_unknown_kind_names_the_remedy(tmp_path):
    write(tmp_path / "v1")
    with pytest.raises(
        BundleError, match=r"expected a model kind among .* got 'toy'; what to do: use the release that has it"
    ):
        Ensemble(load_bundle(tmp_path / "v1"))


def test_load_bundle_with_two_members_of_one_name_is_refused(tmp_path):
    write(tmp_path / "v1", members=(MEMBER, MEMBER))
    with pytest.raises(BundleError, match=r"members with different names .* \['toy', 'toy'\]"):
        load_bundle(tmp_path / "v1")


def test_write_bundle_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    calls = iter(range(9))

    def full_at_the_third(_descriptor: int) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("surveillance_pipelines.models.bundle.os.fsync", full_at_the_third)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "v1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requirement("TRN-12")
def test_save_bundle_of_a_repeated_training_has_the_same_hash(bundle, tmp_path):
    again = train_bundle(tiny_training_set(), seed=7, deadline=Deadline.after(120.0), configs=TINY_CONFIGS)
    assert save_bundle(again, tmp_path / "v2") == bundle.bundle_hash


def test_load_and_score_import_no_training_library(bundle_path):
    code = f"""
import sys
from pathlib import Path
import numpy as np
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.warmup import WarmupRules
scorer = Ensemble(load_bundle(Path({str(bundle_path)!r})))
scorer.warm_up()
heavy = {{"torch", "mlflow", "pandas", "sklearn", "xgboost", "matplotlib", "dagster", "onnx"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_scoring_leaves_nothing_in_the_home_folder(bundle_path, tmp_path):
    code = f"""
from pathlib import Path
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
Ensemble(load_bundle(Path({str(bundle_path)!r}))).warm_up()
"""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env={**environment, "HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_copy_bundle_refuses_a_folder_that_exists_and_leaves_nothing_beside_it(tmp_path: Path):
    bundle, models = tmp_path / "bundle", tmp_path / "models"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    assert copy_bundle(bundle, models / "v1") == models / "v1"
    assert (models / "v1" / "manifest.json").read_text() == "{}"
    with pytest.raises(OSError, match="v1"):
        copy_bundle(bundle, models / "v1")
    assert [path.name for path in models.iterdir()] == ["v1"]
