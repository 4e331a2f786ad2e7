"""The URL of the lake: a folder or an object store, and which folders delta-rs can address."""

import re
from pathlib import Path
from typing import Final
from urllib.request import url2pathname

from surveillance_pipelines.contracts.errors import InvalidInputError

_FILE_SCHEME: Final = "file://"
_NOT_ADDRESSABLE: Final = re.compile(r"[\x00-\x1f\x7f\[\]\\^|]|%[0-9A-Fa-f]{2}")
"""Text in a path that delta-rs 1.6 refuses, or decodes, so that the table would be in another folder."""


def local_folder(url: str) -> Path | None:
    """Return the folder of a lake's URL; None if it is on an object store."""
    if url.startswith(_FILE_SCHEME):
        return Path(url2pathname(url.removeprefix(_FILE_SCHEME).removeprefix("localhost")))
    return None if "://" in url else Path(url)


def require_addressable(folder: Path, setting: str) -> None:
    """Check that delta-rs can keep tables in a folder.

    Args:
        folder: folder of the lake. Links in its path are followed, as delta-rs does.
        setting: name of the setting that determines the folder.

    Raises:
        InvalidInputError: if its path contains text that delta-rs does not accept.
    """
    found = _NOT_ADDRESSABLE.search(str(folder.resolve()))
    if found is None:
        return
    raise InvalidInputError(
        f"expected a folder for the lake without [ ] \\ ^ | %41 and control characters in its path, got {found[0]!r} "
        f"in {str(folder.resolve())!r} ({setting}): the library of the lake, delta-rs, cannot store tables there",
        remedy="set LAKE_URL to a folder with another path; everything else may stay in SURVEILLANCE_HOME",
    )
