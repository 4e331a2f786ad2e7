"""Code versions of assets: a hash of the sources that decide what an asset holds."""

from pathlib import Path

from surveillance_pipelines.hashing import sha256_files

_PACKAGE = Path(__file__).resolve().parents[1]


def code_version(*sources: str) -> str:
    """Return one hash over source files of the package, such as ``"market/aggregation.py"``.

    Dagster marks an asset "code changed" when this changes. The files are read, never imported, so that loading the
    definitions stays light.

    Raises:
        ValueError: if no source is named.
    """
    if not sources:
        raise ValueError("expected at least one source file, was none")
    return sha256_files([_PACKAGE / source for source in sources])[:12]
