"""Content hashes: row ids, input hashes, manifests, config and runtime fingerprints."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy.typing as npt

_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
"""Created once, because ``json.dumps`` creates an encoder per call, which takes as long as encoding a small value."""


def canonical_json(value: Any) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces.

    Raises:
        ValueError: if ``value`` contains NaN or infinity.
    """
    return _ENCODER.encode(value)


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_json(value: Any) -> str:
    return sha256_text(canonical_json(value))


def sha256_bytes(*chunks: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def sha256_rows(rows: "npt.NDArray[Any]") -> list[str]:
    """Return the sha256 of the bytes of each row of an array, in C order."""
    view, width = memoryview(rows.tobytes()), rows[:1].nbytes
    return [hashlib.sha256(view[start : start + width]).hexdigest() for start in range(0, len(view), width or 1)]


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(paths: Iterable[Path]) -> str:
    """Return one hash of the contents of several files, in the given order."""
    return sha256_text("".join(sha256_file(path) for path in paths))
