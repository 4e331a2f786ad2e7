"""Folders that the platform and its libraries can use: SURVEILLANCE_HOME and the lake."""

import os
import re
from pathlib import Path
from typing import Final
from urllib.request import url2pathname

from surveillance_pipelines.contracts.errors import InvalidInputError

_FILE_SCHEME: Final = "file://"
_NO_HOME: Final = re.compile(r"[\x00-\x1f\x7f\[]")
"""Text that the path of a home must not contain. Dagster reads its configuration as a pattern, in which ``[`` begins a
set of characters, and PostgreSQL writes the path as one line of its pid file."""
_NO_LAKE: Final = re.compile(r"[\x00-\x1f\x7f\[\]\\^|]|%[0-9A-Fa-f]{2}")
"""Text in a path that delta-rs 1.6 refuses, or decodes, so that the table would be in another folder."""


def local_folder(url: str) -> Path | None:
    """Return the folder of a lake's URL; None if it is on an object store."""
    if url.startswith(_FILE_SCHEME):
        return Path(url2pathname(url.removeprefix(_FILE_SCHEME).removeprefix("localhost")))
    return None if "://" in url else Path(url)


def require_usable_home(home: Path) -> None:
    """Check that Dagster and PostgreSQL find their files below a home.

    Raises:
        InvalidInputError: if its path contains text that one of them does not accept.
    """
    if (found := _NO_HOME.search(str(home))) is not None:
        raise InvalidInputError(
            f"expected SURVEILLANCE_HOME without [ and control characters in its path, got {found[0]!r} in "
            f"{str(home)!r}: Dagster and PostgreSQL would not find their files there",
            remedy="set SURVEILLANCE_HOME to a folder with another path",
        )


def require_addressable(folder: Path, setting: str) -> None:
    """Check that delta-rs can keep tables in a folder.

    Args:
        folder: folder of the lake. Links in its path are followed, as delta-rs does.
        setting: name of the setting that determines the folder.

    Raises:
        InvalidInputError: if its path contains text that delta-rs does not accept.
    """
    real = os.path.realpath(folder)
    if (found := _NO_LAKE.search(real)) is not None:
        raise InvalidInputError(
            f"expected a folder for the lake without [ ] \\ ^ | %41 and control characters in its path, got "
            f"{found[0]!r} in {real!r} ({setting}): delta-rs, which stores its tables, cannot use it",
            remedy="set LAKE_URL to a folder with another path; everything else may stay in SURVEILLANCE_HOME",
        )
