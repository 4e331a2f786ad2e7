"""A user's files as commands read them: errors of the whole file become usage errors with what to do."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.commands.failures import ExitCode, failing_as

if TYPE_CHECKING:
    from surveillance_pipelines.market.files import FileResult

_PRICE_COLUMNS: Final = frozenset({"price", "last"})


def read_bars_file(path: Path, *, tz: str | None = None, **options: Any) -> "FileResult":
    """Return the bars of a file, as ``market.files.read_bars`` has them."""
    from surveillance_pipelines.market.file_columns import FileError
    from surveillance_pipelines.market.files import read_bars

    with failing_as(ExitCode.USAGE, FileError):
        return read_bars(path, timezone=tz, **options)


def read_ticks_file(path: Path, *, tz: str | None = None) -> "FileResult":
    """Return the trades of a file, as ``market.files.read_ticks`` has them."""
    from surveillance_pipelines.market.file_columns import FileError
    from surveillance_pipelines.market.files import read_ticks

    with failing_as(ExitCode.USAGE, FileError):
        return read_ticks(path, timezone=tz)


def holds_trades(path: Path, *, tz: str | None = None) -> bool:
    """Return whether a file holds trades, or bars of seconds, which count as trades; else it holds bars of minutes."""
    from surveillance_pipelines.market.file_columns import FileError, load_table, pick_columns

    with failing_as(ExitCode.USAGE, FileError):
        loaded = load_table(path)
        if _PRICE_COLUMNS & set(loaded.columns):
            return True
        times = pick_columns(loaded, ("symbol", "time"), path=path, symbol="ANY", timezone=tz, dates=True)["time"]
    return bool((times.dt.truncate("1m") != times).any())
