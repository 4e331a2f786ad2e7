"""The ids that people type: an id of an object, or the first characters of one."""

import re
from collections.abc import Sequence
from typing import Final

from surveillance_pipelines.contracts.errors import InvalidInputError, NotFoundError

MIN_ID_LENGTH: Final = 6
"""Minimum length of an id prefix."""
_ID: Final = re.compile(r"[0-9a-f]{6,64}")


def require_prefix(text: str, noun: str, *, remedy: str) -> None:
    """Check that a text can be an id or the beginning of one.

    Raises:
        InvalidInputError: if it cannot.
    """
    if _ID.fullmatch(text) is None:
        raise InvalidInputError(
            f"expected the id of an {noun}, or at least {MIN_ID_LENGTH} of its first characters (0-9, a-f), got "
            f"{text!r}",
            remedy=remedy,
        )


def only_match(found: Sequence[str], text: str, noun: str, *, table: str, remedy: str) -> str:
    """Return the only id that begins with a text.

    Raises:
        InvalidInputError: if there are several.
        NotFoundError: if there is none.
    """
    if not found:
        raise no_match(text, noun, table=table, remedy=remedy)
    if len(found) > 1:
        raise InvalidInputError(
            f"expected the id of one {noun}, got {text!r}, which matches {len(found)} {noun}s or more",
            remedy=f"give more characters of the id; {remedy}",
        )
    return found[0]


def no_match(text: str, noun: str, *, table: str, remedy: str) -> NotFoundError:
    """Return the error for an id that nothing has."""
    return NotFoundError(
        f"expected the id of an {noun} in {table}, or a prefix of it, got {text!r}, which matches none", remedy=remedy
    )
