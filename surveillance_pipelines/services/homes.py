"""SURVEILLANCE_HOME as a folder on disk: detection, size and deletion."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from surveillance_pipelines.contracts.endpoints import HOME_MARKERS
from surveillance_pipelines.contracts.errors import ConflictError

if TYPE_CHECKING:
    from surveillance_pipelines.settings import Settings


def is_platform_home(home: Path) -> bool:
    """Return whether the platform created a folder."""
    return any((home / marker).is_file() for marker in HOME_MARKERS)


def require_unused(home: Path) -> None:
    """Check that no other process uses a home.

    Raises:
        ConflictError: if other processes use it; the message lists them.
    """
    from surveillance_pipelines.embedded.relocation import has_moved
    from surveillance_pipelines.embedded.service_home import ServiceHome

    files = ServiceHome(home)
    if has_moved(files):
        return
    if pids := [pid for pid in files.live_holders() if pid != os.getpid()]:
        raise ConflictError(
            f"expected no other process to use {home}, got the processes {', '.join(map(str, pids))}",
            remedy="stop them (ctrl-C in `surveillance up`) and repeat",
        )


def uses_embedded_services(settings: "Settings") -> bool:
    """Return whether the settings lack a database or a queue, so that embedded services are used."""
    return settings.database_url is None or not settings.sqs_queue_url


def is_untouched(settings: "Settings") -> bool:
    """Return whether nothing has been stored: the home has no data and no database is configured."""
    return settings.database_url is None and is_empty(settings.surveillance_home)


def is_empty(home: Path) -> bool:
    """Return whether a home does not exist or has no data; compiled functions (``cache``) can be computed again."""
    return not home.exists() or (home.is_dir() and not {path.name for path in home.iterdir()} - {"cache"})


def folder_size(path: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def delete_home(settings: "Settings") -> None:
    """Stop the embedded services of SURVEILLANCE_HOME and delete the folder.

    Raises:
        ConflictError: if other processes use it.
    """
    from surveillance_pipelines.embedded.services import stop_services

    require_unused(settings.surveillance_home)
    if uses_embedded_services(settings):
        stop_services(settings)
    shutil.rmtree(settings.surveillance_home)
