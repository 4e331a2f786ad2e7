"""A user's files as commands read them: errors of the whole file become usage errors with what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    from surveillance_pipelines.market.files import FileResult

_PRICE_COLUMNS: Final = frozenset({"price", "last"})
_REMEDIES: Final = {"symbol": "`--symbol SPY`, the symbol of the whole file", "timezone": "`--tz America/New_York`"}
"""What the file lacks → the option that says it."""


def read_bars_file(path: Path, *, tz: str | None = None, **options: Any) -> "FileResult":
    """Return the bars of a file, as ``market.files.read_bars`` has them."""
    from surveillance_pipelines.market.files import read_bars

    with _naming_the_option():
        return read_bars(path, timezone=tz, **options)


def read_known_bars_file(path: Path, *, tz: str | None, symbol: str | None, as_of: int | None) -> "FileResult":
    """Return the bars of a file as known at an instant, as ``market.files.read_known_bars`` has them."""
    from surveillance_pipelines.market.files import read_known_bars

    with _naming_the_option():
        return read_known_bars(path, timezone=tz, symbol=symbol, as_of=as_of)


def read_ticks_file(path: Path, *, tz: str | None = None, symbol: str | None = None) -> "FileResult":
    """Return the trades of a file, as ``market.files.read_ticks`` has them."""
    from surveillance_pipelines.market.files import read_ticks

    with _naming_the_option():
        return read_ticks(path, timezone=tz, symbol=symbol)


def holds_trades(path: Path, *, tz: str | None = None) -> bool:
    """Return whether a file holds trades, or bars of seconds, which count as trades; else it holds bars of minutes."""
    from surveillance_pipelines.market.file_columns import load_table, pick_columns

    with _naming_the_option():
        loaded = load_table(path)
        if _PRICE_COLUMNS & set(loaded.columns):
            return True
        times = pick_columns(loaded, ("symbol", "time"), path=path, symbol="ANY", timezone=tz, dates=True)["time"]
    return bool((times.dt.truncate("1m") != times).any())


def first_reason(found: "FileResult") -> str:
    """Return why the first refused row of a file was refused, and where it stands; empty if none was."""
    return next((f"{refusal.where}: {refusal.reason}" for refusal in found.refusals), "")


@contextmanager
def _naming_the_option() -> Iterator[None]:
    from surveillance_pipelines.market.file_columns import FileError

    try:
        yield
    except FileError as error:
        raise InvalidInputError(str(error), remedy=_REMEDIES.get(error.lacks, "")) from error
