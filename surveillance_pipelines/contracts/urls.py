"""URLs that contain a password: what may be shown of one, and whether one can be read without doubt."""

import re
from typing import Final
from urllib.parse import urlsplit

from surveillance_pipelines.contracts.errors import InvalidInputError

_HIDDEN: Final = "***"
_HOST: Final = r"(?:\[[0-9A-Fa-f:.]*\]|[^\s:@/?#\[\],]*)(?::\d*)?"
_HOSTS: Final = re.compile(rf"{_HOST}(?:,{_HOST})*")
_AMBIGUOUS: Final = re.compile(r"[\s#\x00-\x1f\x7f]|%(?![0-9A-Fa-f]{2})|%00")
"""Text that libraries read in different ways, or refuse with an error that contains it."""
_SECRET_PARAMETER: Final = re.compile(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)


def without_password(url: str) -> str:
    """Return a URL with its password masked; of a URL that cannot be read without doubt, only the scheme."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _HIDDEN if "@" in url or "=" in url else url
    if not _is_readable(rest):
        return f"{scheme}://{_HIDDEN}"
    before, at, after = rest.rpartition("@") if "@" in rest.partition("?")[0] else ("", "", rest)
    user, colon, _ = before.partition(":")
    shown = f"{user}:{_HIDDEN}" if colon else user
    return _SECRET_PARAMETER.sub(rf"\1{_HIDDEN}", f"{scheme}://{shown}{at}{after}")


def require_readable_url(url: str, setting: str) -> None:
    """Check that a URL has one reading, so that no library takes a part of the password for a host and shows it.

    Raises:
        InvalidInputError: if user, password and host cannot be told apart; the message contains no part of the URL.
    """
    if not _is_readable(url.partition("://")[2]):
        raise InvalidInputError(
            f"expected {setting} as scheme://user:password@host:port/name, got another @, a space, a # or a single % "
            "in it, or a port that is no number",
            remedy="write @ : / ? # % and spaces of the password as %40 %3A %2F %3F %23 %25 and %20",
        )


def _is_splittable(rest: str) -> bool:
    try:
        return bool(urlsplit(f"//{rest}"))
    except ValueError:  # for example a character that contains a slash; the error contains the password
        return False


def _is_readable(rest: str) -> bool:
    """Return whether the part of a URL after ``://`` has one reading: at most one @, and ports that are numbers."""
    if _AMBIGUOUS.search(rest) or not _is_splittable(rest):
        return False
    path, _, query = rest.partition("?")
    authority = path.partition("/")[0]
    if path.count("@") > 1 or "@" in path[len(authority) :]:
        return False
    if query and any("=" not in part for part in query.split("&")):
        return False
    return _HOSTS.fullmatch(authority.rpartition("@")[2]) is not None
