"""Symbols as a user types them."""

from collections.abc import Iterable

import typer


def parse_symbols(text: str) -> tuple[str, ...]:
    """Return the symbols of a list with commas between, in upper case.

    Raises:
        typer.BadParameter: naming what the platform would refuse everywhere else.
    """
    return valid_symbols(text.split(","))


def valid_symbols(texts: Iterable[str]) -> tuple[str, ...]:
    """Return symbols in upper case, without blanks around them and without empty ones.

    Raises:
        typer.BadParameter: naming what the platform would refuse everywhere else.
    """
    from surveillance_pipelines.market.messages import SYMBOL_PATTERN

    symbols = tuple(text.strip().upper() for text in texts if text.strip())
    if wrong := [symbol for symbol in symbols if not SYMBOL_PATTERN.fullmatch(symbol)]:
        raise typer.BadParameter(f"expected symbols of 1 to 32 of A-Z 0-9 . ^ = / _ -, got {', '.join(wrong)}")
    return symbols
