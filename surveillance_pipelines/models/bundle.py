"""A model bundle: one folder of model files and JSON, identified by the hash of its manifest. No pickle, no code.

The live process loads it with numpy, onnxruntime and json. A bundle is immutable: it is written once, to a new folder,
and every load checks every byte against the manifest.

Format 2 lists its members and the fusion rule in ``market_surveillance_config.json``. Format 1 has three fixed models
(``bundle_v1.py``) and is only read.
"""

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from surveillance_pipelines.features.views import VIEWS, FeatureView
from surveillance_pipelines.hashing import canonical_json, sha256_bytes, sha256_text
from surveillance_pipelines.models import bundle_v1
from surveillance_pipelines.models.fusion import FLOORED, LARGEST
from surveillance_pipelines.models.members import BundleError, MemberSpec

FEATURES_FILE: Final = bundle_v1.FEATURES_FILE
CONFIG_FILE: Final = bundle_v1.CONFIG_FILE
MANIFEST_FILE: Final = "manifest.json"

FORMAT: Final = 2
FORMATS: Final = (1, FORMAT)
MAX_FILE_BYTES: Final = 256 * 1024 * 1024
MAX_JSON_BYTES: Final = 16 * 1024 * 1024
"""JSON takes about 20 times its size in memory."""
MAX_BUNDLE_BYTES: Final = 512 * 1024 * 1024
MAX_FILES: Final = 64
_FILE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]*\.(onnx|safetensors|ubj|json)")
"""File names without a path, of formats that cannot contain code."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle in memory.

    Attributes:
        path: the folder from which it was read.
        bundle_hash: sha256 of the canonical manifest, which names the sha256 of every file.
        format: the bundle format, 1 or 2.
        manifest: the manifest as written.
        view: the feature view on which the models were trained, equal to the running code's.
        files: file name → content.
        members: the models, each after the members that it depends on.
        fusion: name of the rule that combines the members' scores (``models/fusion.py``).
        features: reference histograms of the training data, for drift.
        config: content of ``market_surveillance_config.json``.
    """

    path: Path
    bundle_hash: str
    format: int
    manifest: dict[str, Any]
    view: FeatureView
    files: Mapping[str, bytes]
    members: tuple[MemberSpec, ...]
    fusion: str
    features: dict[str, Any]
    config: dict[str, Any]

    @property
    def model_columns(self) -> tuple[str, ...]:
        """The view's columns that models may read, in order."""
        return self.view.model_columns

    def member(self, name: str) -> MemberSpec:
        """Return a member by its name.

        Raises:
            KeyError: if the bundle has no such member.
        """
        return {spec.name: spec for spec in self.members}[name]


def recorded_hash(path: Path) -> str:
    """Return the hash of the bundle in a folder according to its manifest; the files are not read.

    Raises:
        BundleError: if the folder has no valid manifest.
    """
    return sha256_text(canonical_json(_read_manifest(path)))


def load_bundle(path: Path, *, expected_hash: str | None = None, any_view_code: bool = False) -> Bundle:
    """Read and verify the bundle in a folder.

    Args:
        path: the bundle's folder.
        expected_hash: the recorded ``bundle_hash``; any other is refused.
        any_view_code: accept models trained with other code of the same feature view. Only for replays, which compare
            the features themselves.

    Raises:
        BundleError: if a file is missing, unexpected, too large or a link, has the wrong size, hash or content; or if
            the running code does not have the feature view on which the models were trained.
    """
    manifest = _read_manifest(path)
    _require_exact_files(path, manifest["files"])
    bundle_hash = sha256_text(canonical_json(manifest))
    if expected_hash is not None and bundle_hash != expected_hash:
        raise BundleError(
            f"expected bundle {expected_hash} in {path}, got {bundle_hash}", remedy="restore or retrain it"
        )
    files = _read_files(path, manifest["files"])
    view = _require_view(manifest, any_code=any_view_code)
    config = _parse_json(files[CONFIG_FILE], CONFIG_FILE)
    return Bundle(
        path=path,
        bundle_hash=bundle_hash,
        format=manifest["format"],
        manifest=manifest,
        view=view,
        files=files,
        members=_members(manifest, config, view),
        fusion=LARGEST if manifest["format"] == 1 else str(config.get("fusion")),
        features=_parse_json(files[FEATURES_FILE], FEATURES_FILE),
        config=config,
    )


def write_bundle(
    path: Path,
    files: Mapping[str, bytes],
    members: Sequence[MemberSpec],
    *,
    view: FeatureView,
    reference: Mapping[str, Any],
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
) -> str:
    """Write a bundle of the newest format to a new folder, all or nothing, and return its ``bundle_hash``.

    Args:
        path: the folder to create; its parent is created too.
        files: content of the members' files, by name.
        members: the members, each after the members that it depends on.
        view: the feature view on which the models were trained.
        reference: histograms of the training data.
        settings: further entries of the configuration, JSON-safe.
        training: the training record of the manifest, JSON-safe: parameters, data fingerprint, seeds, library versions,
            metrics. It must contain no timestamps, so that equal data and seeds give an equal hash.

    Raises:
        FileExistsError: if ``path`` exists; a bundle is never overwritten.
        ValueError: if the members do not name exactly these files, or a file name is not a plain name.
    """
    wanted = sorted({name for member in members for name in member.files})
    odd = [name for name in files if _FILE_NAME.fullmatch(name) is None]
    if wanted != sorted(files) or odd:
        raise ValueError(f"expected the members' files {wanted} with plain names, got {sorted(files)}")
    config = {**settings, "members": [member.to_json() for member in members], "fusion": FLOORED}
    contents = {
        **files,
        FEATURES_FILE: canonical_json(reference).encode(),
        CONFIG_FILE: canonical_json(config).encode(),
    }
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


def _members(manifest: Mapping[str, Any], config: Mapping[str, Any], view: FeatureView) -> tuple[MemberSpec, ...]:
    hashes = {name: facts["sha256"] for name, facts in manifest["files"].items()}
    if manifest["format"] == 1:
        return bundle_v1.members(config, view.name, tuple(manifest["model_columns"]), hashes)
    listed = config.get("members")
    if not isinstance(listed, list) or not listed:
        raise BundleError(f"expected a list of members in {CONFIG_FILE}, got {listed!r:.100}")
    members = tuple(MemberSpec.from_json(value, hashes) for value in listed)
    names = [member.name for member in members]
    if len(set(names)) != len(names):
        raise BundleError(f"expected members with different names in {CONFIG_FILE}, got {names}")
    return members


def _write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    if path.exists():
        raise FileExistsError(f"expected a new folder for the bundle, but {path} exists: choose the next version")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        for name, content in contents.items():
            _write_durably(scratch / name, content)
        scratch.chmod(0o755)
        scratch.rename(path)
    except BaseException:  # even an interrupt leaves no partial folder behind
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


def _read_manifest(path: Path) -> dict[str, Any]:
    if path.is_symlink() or not path.is_dir():
        raise BundleError(f"expected a bundle folder at {path}, found none", remedy="train a model or correct the path")
    file = path / MANIFEST_FILE
    if file.is_symlink() or not file.is_file():
        raise BundleError(
            f"expected a plain file {MANIFEST_FILE} in {path}, found none", remedy="restore or retrain the bundle"
        )
    if (size := file.stat().st_size) > MAX_JSON_BYTES:
        raise BundleError(f"expected at most {MAX_JSON_BYTES:,} bytes in {file}, got {size:,}")
    manifest = _parse_json(file.read_bytes(), MANIFEST_FILE)
    if manifest.get("format") not in FORMATS:
        raise BundleError(
            f"expected bundle format {' or '.join(map(str, FORMATS))} in {path}, got {manifest.get('format')!r}",
            remedy="retrain, or use the release that wrote it",
        )
    _require_file_names(path, manifest)
    if not isinstance(manifest.get("training"), dict):
        raise BundleError(
            f"expected a training record in {MANIFEST_FILE} of {path}, got none", remedy="retrain the models"
        )
    return manifest


def _require_file_names(path: Path, manifest: Mapping[str, Any]) -> None:
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(facts, dict) for facts in files.values()):
        raise BundleError(f"expected the manifest of {path} to list files with hash and size, got {files!r:.300}")
    if manifest["format"] == 1 and set(files) != set(bundle_v1.FILES):
        raise BundleError(
            f"expected the manifest of {path} to name {sorted(bundle_v1.FILES)}, got {sorted(files)!r:.300}"
        )
    odd = sorted(name for name in files if _FILE_NAME.fullmatch(name) is None or name == MANIFEST_FILE)
    if odd or len(files) > MAX_FILES or not {CONFIG_FILE, FEATURES_FILE} <= set(files):
        raise BundleError(
            f"expected the manifest of {path} to name {CONFIG_FILE}, {FEATURES_FILE} and at most {MAX_FILES} model "
            f"files in all, got {sorted(files)!r:.300}"
        )


def _require_exact_files(path: Path, files: Mapping[str, Any]) -> None:
    expected = {*files, MANIFEST_FILE}
    found = {entry.name: entry for entry in os.scandir(path)}
    if set(found) != expected:
        raise BundleError(
            f"expected exactly {sorted(expected)} in {path}; missing {sorted(expected - set(found))}, "
            f"extra {sorted(set(found) - expected)}"
        )
    odd = sorted(name for name, entry in found.items() if not entry.is_file(follow_symlinks=False))
    if odd:
        raise BundleError(f"expected plain files in {path}, but these are links or folders: {odd}")


def _read_files(path: Path, expected: Mapping[str, Any]) -> dict[str, bytes]:
    sizes = {name: (path / name).stat().st_size for name in expected}
    if (total := sum(sizes.values())) > MAX_BUNDLE_BYTES:
        raise BundleError(f"expected at most {MAX_BUNDLE_BYTES:,} bytes in the files of {path}, got {total:,}")
    return {name: _read_verified(path / name, facts) for name, facts in expected.items()}


def _read_verified(path: Path, expected: Mapping[str, Any]) -> bytes:
    size = path.stat().st_size
    limit = MAX_JSON_BYTES if path.suffix == ".json" else MAX_FILE_BYTES
    if size > limit:
        raise BundleError(f"expected at most {limit:,} bytes in {path}, got {size:,}")
    if size != expected.get("size"):
        raise BundleError(f"expected {expected.get('size')} bytes in {path}, got {size}: the bundle is damaged")
    content = path.read_bytes()
    digest = sha256_bytes(content)
    if digest != expected.get("sha256"):
        raise BundleError(f"expected sha256 {expected.get('sha256')} of {path}, got {digest}: the bundle is damaged")
    return content


def _require_view(manifest: Mapping[str, Any], *, any_code: bool) -> FeatureView:
    name, source_hash = manifest.get("feature_view"), manifest.get("feature_view_source_hash")
    view = VIEWS.get(str(name))
    if view is None:
        raise BundleError(f"expected a feature view among {sorted(VIEWS)}, the bundle needs {name!r}", remedy="retrain")
    if view.source_hash != source_hash and not any_code:
        raise BundleError(
            f"expected feature view {name} with the source hash {source_hash} of the training, the running code has "
            f"{view.source_hash}",
            remedy="retrain, or run the release that trained the models",
        )
    if list(view.model_columns) != manifest.get("model_columns"):
        raise BundleError(
            f"expected the model columns of {name}, got {manifest.get('model_columns')!r:.300}", remedy="retrain"
        )
    return view


def _parse_json(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"expected JSON in {name}: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(f"expected a JSON object in {name}, got {type(value).__name__}")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers, got {text}")
    return value
