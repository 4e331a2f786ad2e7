"""The spelling of symbols, checked wherever one enters: messages, files, settings and commands."""

import re
from typing import Final

MAX_SYMBOL_LENGTH: Final = 32
SYMBOL_PATTERN: Final = re.compile(r"[A-Z0-9^][A-Z0-9.^=_-]*(?:/[A-Z0-9^][A-Z0-9.^=_-]*)*/?", re.ASCII)
"""Upper case only, so that an instrument has one spelling, one message group and one queue.

A symbol is never a path out of a folder or an option of a command: each part between slashes starts with a letter, a
digit or a caret. Vendors end symbols with a dot (``BP.``), a slash (``BP/``) or a sign of the share class. The
expression has no lookaround, because polars' expressions have none; the length is checked separately.
"""
SYMBOL_RULE: Final = (
    f"1 to {MAX_SYMBOL_LENGTH} of A-Z 0-9 . ^ = / _ -, with A-Z, 0-9 or ^ first and after each slash inside,"
)


def is_symbol(text: str) -> bool:
    """Return whether a text is spelled as a symbol."""
    return len(text) <= MAX_SYMBOL_LENGTH and SYMBOL_PATTERN.fullmatch(text) is not None
