"""Folders of bundles. Records hold paths relative to the models folder, so a copied or moved home uses its own files.

Records of earlier releases hold absolute paths. In a copied home, they lead to the original, so the models folder of
this home is searched first, by the hash of the bundle.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from surveillance_pipelines.contracts.endpoints import HOME_MARKERS
from surveillance_pipelines.models.bundle import BundleError, recorded_hash

_VERSIONS: Final = "v[0-9]*"


def stored_path(models_path: Path, folder: Path) -> Path:
    """Return the path to record for a bundle's folder: relative if it lies in the models folder, else absolute."""
    return folder.relative_to(models_path) if folder.is_relative_to(models_path) else folder.absolute()


def bundle_folder(models_path: Path, path: str | Path, bundle_hash: str) -> Path:
    """Return the folder of a bundle in this home, for a recorded path.

    The order is: the folder of that name in the models folder, any other folder there with this bundle, and the
    recorded folder, unless it belongs to another home. If none holds the bundle, the folder where it should be is
    returned, so that ``load_bundle`` names it in its error.

    Args:
        models_path: models folder of this home.
        path: recorded path.
        bundle_hash: recorded hash.
    """
    recorded = Path(path)
    expected = models_path / recorded if not recorded.is_absolute() else models_path / recorded.name
    for folder in _candidates(models_path, expected, recorded):
        if _holds(folder, bundle_hash):
            return folder
    is_elsewhere = recorded.is_absolute() and recorded.is_dir() and not _is_of_other_home(models_path, recorded)
    return recorded if is_elsewhere else expected


def _candidates(models_path: Path, expected: Path, recorded: Path) -> Iterator[Path]:
    yield expected
    yield from sorted(models_path.glob(_VERSIONS))
    if recorded.is_absolute() and not _is_of_other_home(models_path, recorded):
        yield recorded


def _holds(folder: Path, bundle_hash: str) -> bool:
    try:
        return recorded_hash(folder) == bundle_hash
    except (BundleError, OSError):
        return False


def _is_of_other_home(models_path: Path, folder: Path) -> bool:
    homes = (parent for parent in folder.parents if any((parent / marker).is_file() for marker in HOME_MARKERS))
    return any(not models_path.is_relative_to(home) for home in homes)
