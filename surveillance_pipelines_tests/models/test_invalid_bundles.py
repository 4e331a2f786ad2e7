"""Bundles whose hashes match and whose content cannot serve are refused with one kind of error, before they serve."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models import autoencoder, classifier, direction
from surveillance_pipelines.models.bundle import CONFIG_FILE, MANIFEST_FILE, load_bundle
from surveillance_pipelines.models.contract import MAX_WINDOW_BARS, InputSpec
from surveillance_pipelines.models.ensemble import warmed_ensemble
from surveillance_pipelines.models.members import BundleError
from surveillance_pipelines_tests.models.edited_bundles import V1, edit_json, edit_member, replace_file, write_v2

ROWS = np.ones((3, len(CORE_V1.columns)))
AUTOENCODER, CLASSIFIER, DIRECTION = 0, 1, 2
Entry = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_v2(tmp_path / "v2")


def test_bundle_of_format_2_with_the_models_of_format_1_scores_as_before(path: Path) -> None:
    old, new = warmed_ensemble(load_bundle(V1)).predict(ROWS), warmed_ensemble(load_bundle(path)).predict(ROWS)
    np.testing.assert_array_equal(new.anomaly_score, old.anomaly_score)
    np.testing.assert_array_equal(new.probabilities, old.probabilities)


def calibration(**values: Any) -> Callable[[Entry], object]:
    return lambda entry: entry["calibration"].update(values)


def edit_part(name: str, **values: Any) -> Callable[[Entry], object]:
    return lambda entry: entry[name].update(values)


def edit_list(part: str, name: str, change: Callable[[list[Any]], Any]) -> Callable[[Entry], object]:
    def edit(entry: Entry) -> None:
        entry[part][name] = change(entry[part][name])

    return edit


EDITS: dict[str, tuple[int, Callable[[Entry], object], str]] = {
    "knots_without_scores": (AUTOENCODER, calibration(score=[0.0, 1.0]), "with a score each"),
    "one_knot": (AUTOENCODER, calibration(statistic=[1.0], score=[1.0]), "two or more knots"),
    "nested_knots": (AUTOENCODER, calibration(statistic=[[0.0, 1.0]], score=[[0.0, 1.0]]), "two or more knots"),
    "descending_knots": (AUTOENCODER, calibration(statistic=[1.0, 0.0], score=[0.0, 1.0]), "ascending"),
    "equal_knots": (AUTOENCODER, calibration(statistic=[1.0, 1.0], score=[0.0, 1.0]), "ascending"),
    "descending_scores": (AUTOENCODER, calibration(statistic=[0.0, 1.0], score=[1.0, 0.0]), "ascending"),
    "scores_over_1": (AUTOENCODER, calibration(statistic=[0.0, 1.0], score=[0.0, 1.5]), "from 0 to 1"),
    "knots_of_text": (AUTOENCODER, calibration(statistic=["low", "high"]), "calibration"),
    "calibration_nan": (AUTOENCODER, calibration(score=[0.0, float("nan")]), "finite numbers, got NaN"),
    "no_rule": (AUTOENCODER, lambda entry: entry.update(calibration={}), "rule"),
    "rule_list": (AUTOENCODER, calibration(rule=["knots"]), "calibration rule"),
    "calibration_list": (AUTOENCODER, lambda entry: entry.update(calibration=[1]), "object in calibration"),
    "threshold_nan": (CLASSIFIER, calibration(threshold=float("nan")), "finite numbers, got NaN"),
    "threshold_0": (CLASSIFIER, calibration(threshold=0), "threshold between 0 and 1"),
    "threshold_1": (CLASSIFIER, calibration(threshold=1), "threshold between 0 and 1"),
    "threshold_huge": (CLASSIFIER, calibration(threshold=10**400), "calibration"),
    "labels_none": (CLASSIFIER, edit_part("output", labels=[]), "label 'normal'"),
    "labels_only_normal": (CLASSIFIER, edit_part("output", labels=["normal"]), "label 'normal' and then others"),
    "labels_normal_last": (CLASSIFIER, edit_list("output", "labels", lambda all_: all_[::-1]), "label 'normal'"),
    "labels_missing": (CLASSIFIER, edit_list("output", "labels", lambda all_: all_[:-1]), r"outputs of shape \[n, 9\]"),
    "labels_wrong": (CLASSIFIER, edit_list("output", "labels", lambda all_: [*all_[:-1], "x"]), "labels in the order"),
    "labels_extra": (CLASSIFIER, edit_list("output", "labels", lambda all_: [*all_, "x"]), "labels in the order"),
    "labels_moved": (
        CLASSIFIER, edit_list("output", "labels", lambda all_: [all_[0], *all_[:0:-1]]), "labels in the order",
    ),
    "labels_twice": (CLASSIFIER, edit_list("output", "labels", lambda all_: [*all_[:-1], all_[1]]), "different labels"),
    "labels_numbers": (CLASSIFIER, edit_part("output", labels=["normal", 1]), "expected text"),
    "output_list": (CLASSIFIER, edit_part("output", kind=["anomaly_kind"]), "expected text"),
    "output_unknown": (CLASSIFIER, edit_part("output", kind="mood"), "expected an output among"),
    "kind_list": (CLASSIFIER, lambda entry: entry.update(kind=["classifier"]), "expected text"),
    "kind_object": (CLASSIFIER, lambda entry: entry.update(kind={}), "expected text"),
    "name_list": (CLASSIFIER, lambda entry: entry.update(name=["classifier"]), "expected text"),
    "name_empty": (CLASSIFIER, lambda entry: entry.update(name=""), "expected text"),
    "files_number": (CLASSIFIER, lambda entry: entry.update(files=3), "complete member"),
    "serves_text": (CLASSIFIER, lambda entry: entry.update(serves="no"), "true or false"),
    "columns_numbers": (CLASSIFIER, edit_part("input", columns=[1, 2]), "expected text"),
    "columns_none": (DIRECTION, edit_part("input", columns=[]), "at least one column"),
    "columns_moved": (
        CLASSIFIER, edit_list("input", "columns", lambda all_: [all_[1], all_[0], *all_[2:]]), "order of its feature",
    ),
    "columns_twice": (
        CLASSIFIER, edit_list("input", "columns", lambda all_: [all_[0], all_[0], *all_[2:]]), "each column once",
    ),
    "columns_missing": (DIRECTION, edit_list("input", "columns", lambda all_: all_[:-1]), r"inputs of shape \[n, 41\]"),
    "columns_unknown": (DIRECTION, edit_list("input", "columns", lambda all_: [*all_[:-1], "mood"]), "'mood'"),
    "length_text": (DIRECTION, edit_part("input", length="1"), "whole number"),
    "length_fraction": (DIRECTION, edit_part("input", length=1.5), "whole number"),
    "length_0": (DIRECTION, edit_part("input", length=0), "1 to 1440 bars"),
    "length_of_another_kind": (DIRECTION, edit_part("input", length=2), "windows of at most 1 bars"),
    "length_huge": (DIRECTION, edit_part("input", length=10**9), "1 to 1440 bars"),
    "horizons_none": (DIRECTION, edit_part("output", horizons_minutes=[]), "and a horizon"),
    "horizons_text": (DIRECTION, edit_part("output", horizons_minutes=["15"]), "whole number"),
    "horizons_0": (DIRECTION, edit_part("output", horizons_minutes=[0]), "at least 1 minute"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_bundle_with_an_invalid_member_is_refused(path: Path, edit: str) -> None:
    member, change, words = EDITS[edit]
    edit_member(path, member, change)
    with pytest.raises(BundleError, match=words):
        warmed_ensemble(load_bundle(path))


def test_bundle_in_which_no_detector_serves_is_refused(path: Path) -> None:
    def change(config: Entry) -> None:
        for entry in config["members"]:
            entry["serves"] = False

    edit_json(path, CONFIG_FILE, change)
    with pytest.raises(BundleError, match="serving member with a calibration, without which no bar is anomalous"):
        warmed_ensemble(load_bundle(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (classifier.MODEL_FILE, b""),
        (classifier.MODEL_FILE, b"garbage" * 100),
        (direction.MODEL_FILE, b"garbage" * 100),
        (autoencoder.MODEL_FILE, b""),
        (autoencoder.SCALER_FILE, b"[" * 100_000),
        (autoencoder.SCALER_FILE, b"[]"),
        (CONFIG_FILE, b"[" * 100_000),
        (CONFIG_FILE, b'{"members": ' + b"[" * 100_000),
        (CONFIG_FILE, b'{"members": [1]}'),
        (CONFIG_FILE, b'{"members": [null]}'),
        (CONFIG_FILE, b'{"members": [], "fusion": 1e999}'),
        (CONFIG_FILE, b"\xff"),
    ],
)
def test_bundle_with_a_file_that_cannot_be_loaded_is_refused(path: Path, name: str, content: bytes) -> None:
    replace_file(path, name, content)
    with pytest.raises(BundleError):
        warmed_ensemble(load_bundle(path))


@pytest.mark.parametrize("name", [autoencoder.MODEL_FILE, direction.MODEL_FILE])
def test_bundle_with_the_file_of_another_model_is_refused(path: Path, name: str) -> None:
    replace_file(path, classifier.MODEL_FILE, (path / name).read_bytes())
    with pytest.raises(BundleError, match="expected a model with inputs of shape"):
        warmed_ensemble(load_bundle(path))


@pytest.mark.parametrize(
    "change", [{"center": float("nan")}, {"scale": float("nan")}, {"scale": 0.0}, {"clip": 0.0}, {"clip": 1e400}]
)
def test_bundle_with_an_invalid_scaling_is_refused(path: Path, change: dict[str, float]) -> None:
    def edit(scaler: Entry) -> None:
        for name, value in change.items():
            scaler[name] = value if name == "clip" else [value, *scaler[name][1:]]

    edit_json(path, autoencoder.SCALER_FILE, edit)
    with pytest.raises(BundleError, match="market_scaler"):
        warmed_ensemble(load_bundle(path))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"format": NaN}', '{"format": 2, "training": 1e999}'])
def test_bundle_with_a_manifest_that_is_no_plain_json_is_refused(path: Path, content: str) -> None:
    (path / MANIFEST_FILE).write_text(content)
    with pytest.raises(BundleError, match=MANIFEST_FILE):
        load_bundle(path)


@pytest.mark.parametrize("threshold", [float("nan"), 0.0, 1.0, "high"])
def test_bundle_of_format_1_with_an_invalid_calibration_is_refused(tmp_path: Path, threshold: object) -> None:
    copied = Path(shutil.copytree(V1, tmp_path / "v1"))
    edit_json(copied, CONFIG_FILE, lambda config: config["classifier"].update(threshold=threshold))
    with pytest.raises(BundleError):
        warmed_ensemble(load_bundle(copied))


def test_window_longer_than_a_day_is_refused_for_every_kind() -> None:
    assert InputSpec("core_v1", ("log_return",), MAX_WINDOW_BARS).length == MAX_WINDOW_BARS
    with pytest.raises(ValueError, match=f"1 to {MAX_WINDOW_BARS} bars"):
        InputSpec("core_v1", ("log_return",), MAX_WINDOW_BARS + 1)
