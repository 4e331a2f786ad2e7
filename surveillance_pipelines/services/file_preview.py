"""How a file of bars would be read: its layout, columns, times, calendars and first rows. Nothing is stored."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.services.instruments import recorded_calendars
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.market.files.options import FileOptions
    from surveillance_pipelines.market.files.result import FileResult

_ROWS: Final = 3
_REFUSALS: Final = 5
_SYMBOLS: Final = 10


@dataclass(frozen=True, slots=True)
class FilePreview:
    """How a file would be read.

    Attributes:
        properties: name and value of each property.
        columns: names of the columns of ``first_rows``.
        first_rows: the first bars.
        refusals: position, code and reason of the first refused rows.
    """

    properties: list[tuple[str, str]]
    columns: tuple[str, ...]
    first_rows: list[tuple[Any, ...]]
    refusals: list[tuple[str, str, str]]


def preview_file(
    stores: Stores,
    path: Path,
    options: "FileOptions",
    *,
    calendar: str | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> FilePreview:
    """Return how a file of bars would be read.

    Args:
        stores: settings and database, for the calendars of registered instruments and the default calendar.
        path: the file.
        options: facts that the file does not state.
        calendar: stated calendar of new symbols.
        clock: for times in the future.

    Raises:
        FileError: if the file as a whole cannot be read.
    """
    from surveillance_pipelines.market.files.bars import read_bars

    found = read_bars(path, options, clock=clock)
    columns = ("symbol", "bar_start", "open", "high", "low", "close", "volume")
    shown = found.frame.head(_ROWS).with_columns(
        found.frame["bar_start"].head(_ROWS).dt.to_string("%Y-%m-%d %H:%M UTC")
    )
    refusals = [(refusal.where, refusal.code, refusal.reason) for refusal in found.refusals[:_REFUSALS]]
    return FilePreview(
        [*_properties(found), *_calendars(stores, found.frame, calendar), *(("note", note) for note in found.notes)],
        columns,
        shown.select(columns).rows(),
        refusals,
    )


def _properties(found: "FileResult") -> list[tuple[str, str]]:
    reading = found.reading
    counts = (
        f"{found.rows_in:,} = {found.frame.height:,} valid + {len(found.refusals):,} refused + "
        f"{found.duplicates:,} duplicates"
    )
    return [
        ("layout", reading.layout),
        *((f"column of {ours}", theirs) for ours, theirs in reading.sources.items()),
        ("times", reading.times),
        ("bar size", str(reading.timeframe)),
        ("rows", counts),
    ]


def _calendars(stores: Stores, bars: "pl.DataFrame", stated: str | None) -> list[tuple[str, str]]:
    """Return the calendars that an ingest would use: a registered symbol keeps its own."""
    from surveillance_pipelines.market.calendar_choice import choose_calendar

    recorded, default = recorded_calendars(stores), stores.settings.default_calendar
    symbols = bars["symbol"].unique().sort().to_list()
    shown = [
        (
            f"calendar of {symbol}",
            (recorded.get(symbol) or choose_calendar(symbol, stated=stated, default=default)).sentence,
        )
        for symbol in symbols[:_SYMBOLS]
    ]
    more = len(symbols) - _SYMBOLS
    return shown if more <= 0 else [*shown, ("further symbols", f"{more:,}")]
