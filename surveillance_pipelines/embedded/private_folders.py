"""Permissions of SURVEILLANCE_HOME: only its owner can read or write what is in it.

For root, the group of PostgreSQL's account may pass through the home and ``embedded/`` to its data folder, and can list
neither. Folders of an older version are changed when a process of the home starts.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from surveillance_pipelines.embedded.unprivileged import system_group

_FOLDERS: Final = ("cache", "dagster", "demo", "embedded", "lake", "logs", "mlartifacts", "models")
_FILES: Final = ("demo.json", "services.json")
_PASSES_THROUGH: Final = 0o710


def protect_home(home: Path) -> None:
    """Remove the access of others to the platform's files in a home, and to the home if it holds nothing else."""
    if not home.is_dir():
        return
    if _is_own_folder(home):
        protect_folder(home, passed_through=True)
    for name in _FOLDERS:
        if (home / name).is_dir() and not (home / name).is_symlink():
            protect_folder(home / name, passed_through=name == "embedded")
    for name in _FILES:
        if (home / name).is_file() and not (home / name).is_symlink():
            _change_mode(home / name, 0o600)
    for path in (home / "embedded").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # a temporary file of another process, renamed since
            if not path.is_symlink():
                _change_mode(path, 0o700 if path.is_dir() else 0o600)


def protect_folder(folder: Path, *, passed_through: bool = False) -> None:
    """Remove the access of others to a folder.

    Args:
        folder: a folder of this user.
        passed_through: whether PostgreSQL's account must reach its data below the folder.
    """
    group = system_group() if passed_through and os.geteuid() == 0 else None
    if group is None:
        _change_mode(folder, 0o700)
        return
    if folder.stat().st_gid != group:
        os.chown(folder, -1, group)
    _change_mode(folder, _PASSES_THROUGH)


def _is_own_folder(home: Path) -> bool:
    """Return whether a home holds only the platform's data: not, for example, ``/tmp`` or the user's own home."""
    found = home.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX and home.resolve() != Path.home().resolve()


def _change_mode(path: Path, mode: int) -> None:
    found = path.stat()
    if stat.S_IMODE(found.st_mode) != mode and os.geteuid() in (0, found.st_uid):
        path.chmod(mode)
