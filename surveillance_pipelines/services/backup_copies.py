"""The remedy for files that nothing can compute again: a copy from a backup."""

import shlex
from pathlib import Path
from typing import Final

from surveillance_pipelines.services.platform import Stores

_NEW_HOME: Final = "NEW"


def copy_from_backup(stores: Stores, *paths: Path) -> str:
    """Return how to copy files or folders of the platform from a backup.

    Files of the lake and bundles never change after they are written, so any later backup has the same ones.
    """
    first = paths[0]
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    roots = {stores.home / "lake": "lake", stores.models_path: "models"}
    root = next((root for root in roots if first.is_relative_to(root)), None)
    if stores.settings.database_url is not None or stores.settings.lake_url is not None or root is None:
        return f"restore {first}{others} from a backup"
    copied = f"{_NEW_HOME}/{roots[root]}/{first.relative_to(root).as_posix()}"
    return (
        f"restore from a backup: `surveillance --home {_NEW_HOME} restore BACKUP`, then "
        f"`mkdir -p {shlex.quote(str(first.parent))}`, `cp -aT {shlex.quote(copied)} {shlex.quote(str(first))}`{others}"
    )
