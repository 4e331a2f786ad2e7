"""SURVEILLANCE_HOME as a folder on disk: is there one, is it ours, and how its parts are named to a person."""

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.errors import ConflictError

if TYPE_CHECKING:
    from surveillance_pipelines.settings import Settings

DEMO_MARKER: Final = "demo.json"
"""Says that a home holds nothing but a demo."""
MARKERS: Final = ("embedded/lock", "dagster/dagster.yaml", DEMO_MARKER)
"""Every home that a command or a service has worked in holds at least one of these files."""


def is_ours(home: Path) -> bool:
    """Return whether a folder is a SURVEILLANCE_HOME, and not one that merely bears its name."""
    return any((home / marker).is_file() for marker in MARKERS)


def require_unused(home: Path) -> None:
    """Refuse to take a home away from processes that work in it.

    Raises:
        ConflictError: naming them.
    """
    from surveillance_pipelines.embedded.service_home import ServiceHome

    if pids := [pid for pid in ServiceHome(home).live_holders() if pid != os.getpid()]:
        raise ConflictError(
            f"expected nobody to use {home}, the processes {', '.join(map(str, pids))} do",
            remedy="end them (ctrl-C of `surveillance up`) and repeat",
        )


def uses_embedded_services(settings: "Settings") -> bool:
    """Return whether anything is missing from the settings that the embedded services stand in for."""
    return settings.database_url is None or not settings.sqs_queue_url


def is_untouched(settings: "Settings") -> bool:
    """Return whether nothing has ever been stored: no home, and no database configured."""
    return settings.database_url is None and not settings.surveillance_home.exists()


def without_password(url: str) -> str:
    """Return a database URL in a form that may be printed."""
    return re.sub(r"([?&]password=)[^&]*", r"\1***", re.sub(r"://([^:/@]*):[^@/]*@", r"://\1:***@", url))


def folder_size(path: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def delete_home(settings: "Settings") -> None:
    """Stop the embedded services of SURVEILLANCE_HOME and delete the folder.

    Raises:
        ConflictError: if other processes work in it.
    """
    from surveillance_pipelines.embedded.services import stop_services

    require_unused(settings.surveillance_home)
    if uses_embedded_services(settings):
        stop_services(settings)
    shutil.rmtree(settings.surveillance_home)
