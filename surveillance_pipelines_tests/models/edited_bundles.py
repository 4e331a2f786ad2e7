"""Bundles of format 2 whose content was edited and whose manifest matches the edit, without a training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from surveillance_pipelines.hashing import canonical_json, sha256_bytes, sha256_text
from surveillance_pipelines.models.bundle import CONFIG_FILE, MANIFEST_FILE, load_bundle, write_bundle

V1: Path = Path(__file__).parent / "v1" / "bundle"


def write_v2(path: Path) -> Path:
    """Write the models of the recorded bundle of format 1 as a bundle of format 2."""
    old = load_bundle(V1)
    files = {name: old.files[name] for spec in old.members for name in spec.files}
    write_bundle(path, files, old.members, view=old.view, reference=old.features, settings={}, training={})
    return path


def replace_file(path: Path, name: str, content: bytes) -> str:
    """Replace a file of a bundle, correct its manifest, and return the new hash of the bundle."""
    (path / name).write_bytes(content)
    manifest = json.loads((path / MANIFEST_FILE).read_text())
    manifest["files"][name] = {"sha256": sha256_bytes(content), "size": len(content)}
    (path / MANIFEST_FILE).write_text(canonical_json(manifest))
    return sha256_text(canonical_json(manifest))


def edit_json(path: Path, name: str, change: Callable[[dict[str, Any]], object]) -> str:
    """Edit a JSON file of a bundle, with NaN and infinity as Python writes them; return the new hash of the bundle."""
    value = json.loads((path / name).read_text())
    change(value)
    return replace_file(path, name, json.dumps(value).encode())


def edit_member(path: Path, member: int, change: Callable[[dict[str, Any]], object]) -> str:
    """Edit the entry of a member: 0 the autoencoder, 1 the classifier, 2 the direction model."""
    return edit_json(path, CONFIG_FILE, lambda config: change(config["members"][member]))
