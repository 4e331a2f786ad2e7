"""A model bundle: one folder of ONNX and JSON files, named by the hash of its manifest. No pickle, no code.

The live process loads it with numpy, onnxruntime and json. A bundle is immutable: it is written once, to a new folder,
and every load checks every byte against the manifest.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.features.views import VIEWS, FeatureView
from surveillance_pipelines.hashing import canonical_json, sha256_bytes, sha256_text

AUTOENCODER_FILE: Final = "market_autoencoder.onnx"
CLASSIFIER_FILE: Final = "market_classifier.onnx"
DIRECTION_FILE: Final = "market_direction.onnx"
SCALER_FILE: Final = "market_scaler.json"
FEATURES_FILE: Final = "market_features.json"
CONFIG_FILE: Final = "market_surveillance_config.json"
MANIFEST_FILE: Final = "manifest.json"

MODEL_FILES: Final = (AUTOENCODER_FILE, CLASSIFIER_FILE, DIRECTION_FILE)
JSON_FILES: Final = (SCALER_FILE, FEATURES_FILE, CONFIG_FILE)
BUNDLE_FILES: Final = (*MODEL_FILES, *JSON_FILES)

FORMAT: Final = 1
MAX_FILE_BYTES: Final = 256 * 1024 * 1024


class BundleError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """A bundle cannot be used: damaged, altered, of another format, or trained for other features."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Robust scaling of the model columns: ``clip((x − center) / scale, −clip, clip)``.

    Attributes:
        center: float64[d], medians of the training normals.
        scale: float64[d], interquartile ranges, all positive.
        clip: bound of a scaled value.
    """

    center: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    clip: float


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle in memory.

    Attributes:
        path: the folder it came from.
        bundle_hash: sha256 of the canonical manifest, which names the sha256 of every file.
        manifest: the manifest as written.
        view: the feature view the models were trained on, equal to the running code's.
        model_columns: the view's columns that the models read, in order.
        models: file name → serialised ONNX model.
        scaling: see ``Scaling``.
        features: reference histograms of the training data, for drift.
        config: labels, thresholds, calibration, direction horizon and readiness.
    """

    path: Path
    bundle_hash: str
    manifest: dict[str, Any]
    view: FeatureView
    model_columns: tuple[str, ...]
    models: Mapping[str, bytes]
    scaling: Scaling
    features: dict[str, Any]
    config: dict[str, Any]


def load_bundle(path: Path, *, expected_hash: str | None = None, any_view_code: bool = False) -> Bundle:
    """Read and verify the bundle in a folder.

    Args:
        path: the bundle's folder.
        expected_hash: the ``bundle_hash`` on record; another one is refused.
        any_view_code: accept models of the same feature view from other code. For a replay only, which compares the
            features themselves.

    Raises:
        BundleError: if a file is missing, extra, a link, of the wrong size or hash, or not what its name says; or if
            the running code computes another feature view than the models were trained on.
    """
    _require_exact_files(path)
    manifest = _read_manifest(path)
    bundle_hash = sha256_text(canonical_json(manifest))
    if expected_hash is not None and bundle_hash != expected_hash:
        raise BundleError(f"expected bundle {expected_hash} in {path}, found {bundle_hash}: restore or retrain it")
    contents = {name: _read_verified(path / name, manifest["files"][name]) for name in BUNDLE_FILES}
    view = _require_view(manifest, any_code=any_view_code)
    columns = tuple(manifest["model_columns"])
    return Bundle(
        path=path,
        bundle_hash=bundle_hash,
        manifest=manifest,
        view=view,
        model_columns=columns,
        models={name: contents[name] for name in MODEL_FILES},
        scaling=_parse_scaling(_parse_json(contents[SCALER_FILE], SCALER_FILE), columns),
        features=_parse_json(contents[FEATURES_FILE], FEATURES_FILE),
        config=_parse_json(contents[CONFIG_FILE], CONFIG_FILE),
    )


def write_bundle(path: Path, contents: Mapping[str, bytes], *, view: FeatureView, training: Mapping[str, Any]) -> str:
    """Write a bundle to a new folder, all or nothing, and return its ``bundle_hash``.

    Args:
        path: the folder to create; its parent is created too.
        contents: the bytes of exactly ``BUNDLE_FILES``.
        view: the feature view the models were trained on.
        training: what the manifest tells about the training, JSON-safe: parameters, data fingerprint, seeds, library
            versions, metrics. No instant belongs here: equal data and seeds then give an equal hash.

    Raises:
        FileExistsError: if ``path`` exists; a bundle is never overwritten.
        ValueError: if ``contents`` has other names than ``BUNDLE_FILES``.
    """
    if set(contents) != set(BUNDLE_FILES):
        raise ValueError(f"expected the files {sorted(BUNDLE_FILES)}, got {sorted(contents)}")
    manifest = canonical_json(_manifest(contents, view, training))
    _write_folder(path, {**contents, MANIFEST_FILE: manifest.encode()})
    return sha256_text(manifest)


def copy_bundle(source: Path, path: Path) -> Path:
    """Copy a bundle byte for byte to a new folder, all or nothing, and return the folder.

    Raises:
        FileExistsError: if ``path`` exists; a bundle is never overwritten.
    """
    _write_folder(path, {file.name: file.read_bytes() for file in source.iterdir()})
    return path


def _write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    if path.exists():
        raise FileExistsError(f"expected a new folder for the bundle, {path} exists: choose the next version")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        for name, content in contents.items():
            _write_durably(scratch / name, content)
        scratch.chmod(0o755)
        scratch.rename(path)
    except BaseException:  # an interrupt, too, leaves no half folder behind; raised again
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _manifest(contents: Mapping[str, bytes], view: FeatureView, training: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "feature_view": view.name,
        "feature_view_source_hash": view.source_hash,
        "model_columns": list(view.model_columns),
        "files": {
            name: {"sha256": sha256_bytes(contents[name]), "size": len(contents[name])} for name in sorted(contents)
        },
        "training": dict(training),
    }


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _require_exact_files(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        raise BundleError(f"expected a bundle folder at {path}, found none: train a model or correct the path")
    expected = {*BUNDLE_FILES, MANIFEST_FILE}
    found = {entry.name: entry for entry in os.scandir(path)}
    if set(found) != expected:
        raise BundleError(
            f"expected exactly {sorted(expected)} in {path}; missing {sorted(expected - set(found))}, "
            f"extra {sorted(set(found) - expected)}"
        )
    odd = sorted(name for name, entry in found.items() if not entry.is_file(follow_symlinks=False))
    if odd:
        raise BundleError(f"expected plain files in {path}, these are links or folders: {odd}")


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = _parse_json((path / MANIFEST_FILE).read_bytes(), MANIFEST_FILE)
    if manifest.get("format") != FORMAT:
        raise BundleError(f"expected bundle format {FORMAT} in {path}, was {manifest.get('format')!r}: retrain")
    files = manifest.get("files")
    if not isinstance(files, dict) or set(files) != set(BUNDLE_FILES):
        raise BundleError(f"expected the manifest of {path} to name {sorted(BUNDLE_FILES)}, was {files!r:.300}")
    return manifest


def _read_verified(path: Path, expected: Mapping[str, Any]) -> bytes:
    size = path.stat().st_size
    if size != expected.get("size") or size > MAX_FILE_BYTES:
        raise BundleError(f"expected {expected.get('size')} bytes in {path}, was {size}: the bundle is damaged")
    content = path.read_bytes()
    digest = sha256_bytes(content)
    if digest != expected.get("sha256"):
        raise BundleError(f"expected sha256 {expected.get('sha256')} of {path}, was {digest}: the bundle is damaged")
    return content


def _require_view(manifest: Mapping[str, Any], *, any_code: bool) -> FeatureView:
    name, source_hash = manifest.get("feature_view"), manifest.get("feature_view_source_hash")
    view = VIEWS.get(str(name))
    if view is None:
        raise BundleError(f"expected a feature view among {sorted(VIEWS)}, the bundle wants {name!r}: retrain")
    if view.source_hash != source_hash and not any_code:
        raise BundleError(
            f"expected the code of feature view {name} that the models were trained with ({source_hash}), the running "
            f"code is {view.source_hash}: retrain, or run the release that trained them"
        )
    if list(view.model_columns) != manifest.get("model_columns"):
        raise BundleError(f"expected the model columns of {name}, was {manifest.get('model_columns')!r:.300}: retrain")
    return view


def _parse_json(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise BundleError(f"expected JSON in {name}: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(f"expected a JSON object in {name}, was {type(value).__name__}")
    return value


def _parse_scaling(value: Mapping[str, Any], columns: tuple[str, ...]) -> Scaling:
    if value.get("columns") != list(columns):
        raise BundleError(f"expected {SCALER_FILE} to scale the model columns in order, was {value.get('columns')!r}")
    center, scale = (np.asarray(value.get(name), dtype=np.float64) for name in ("center", "scale"))
    if center.shape != (len(columns),) or scale.shape != center.shape or not (scale > 0).all():
        raise BundleError(f"expected a center and a positive scale per model column in {SCALER_FILE}")
    return Scaling(center=center, scale=scale, clip=float(value["clip"]))
