"""Text from outside as the stores keep it, and lists of names in sentences."""

from collections.abc import Sequence


def listed(names: Sequence[str], most: int) -> str:
    """Return at most so many names, separated by commas, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def storable(text: str) -> str:
    """Return text that PostgreSQL can store: NUL and lone surrogates become visible escapes."""
    if "\x00" not in text and text.isascii():
        return text
    return text.replace("\x00", "\\u0000").encode("utf-8", "backslashreplace").decode()
