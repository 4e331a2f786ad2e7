"""Text from outside as the stores keep it."""


def storable(text: str) -> str:
    """Return text that PostgreSQL can store: NUL and lone surrogates become visible escapes."""
    if "\x00" not in text and text.isascii():
        return text
    return text.replace("\x00", "\\u0000").encode("utf-8", "backslashreplace").decode()
