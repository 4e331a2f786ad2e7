"""Bars for a command, as known at an instant: of a file, or of the platform's lake."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from surveillance_pipelines.commands.console import say, table
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.platform import Platform

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.market.files import FileResult

Days = tuple[date | None, date | None]
"""First and last UTC day, both included; None for no border."""

_OWN_BARS: Final = "bars_1m"


@dataclass(frozen=True, slots=True)
class Known:
    """Bars with their revisions, and what became of the other rows.

    Attributes:
        name: where they come from, in words.
        bars: ``BAR_SCHEMA``, with history and peers of what is asked for.
        rows: that there were: bars + the counts below.
        refused: that are not valid.
        duplicates: that repeat what was known.
        overruled: of sources that give way to another.
        not_yet_known: learned after the instant asked for.
        days: of the bars that are more than history; all where there is no border.
    """

    name: str
    bars: "pl.DataFrame"
    rows: int
    refused: int = 0
    duplicates: int = 0
    overruled: int = 0
    not_yet_known: int = 0
    days: Days = (None, None)

    def within(self, days: Days, symbols: tuple[str, ...]) -> "pl.DataFrame":
        """Return the revision-0 bars of some days and symbols.

        Raises:
            InvalidInputError: if there are none.
        """
        import polars as pl

        first, last = days[0] or self.days[0], days[1] or self.days[1]
        found = self.bars.filter(pl.col("revision") == 0)
        if first is not None:
            found = found.filter(pl.col("date") >= first)
        if last is not None:
            found = found.filter(pl.col("date") <= last)
        if symbols:
            found = found.filter(pl.col("symbol").is_in(symbols))
        if found.is_empty():
            days_held = f"{self.bars['date'].min()} to {self.bars['date'].max()}"
            held = f"{', '.join(self.bars['symbol'].unique().sort())} of {days_held}"
            asked = f"{', '.join(symbols) or 'any symbol'} from {first or 'any day'} to {last or 'any day'}"
            said = held if self.bars.height else f"none ({self.not_yet_known:,} were learned later)"
            raise InvalidInputError(
                f"expected bars of {asked}, {self.name} has {said}",
                remedy="choose other symbols or days, or a later --as-of",
            )
        return found

    def require_mostly_good(self) -> None:
        """Fail where more than half of the rows were refused: the file is probably not what it was taken for."""
        if self.refused * 2 > self.rows:
            raise InvalidInputError(
                f"expected bars, {self.refused:,} of {self.rows:,} rows of {self.name} could not be used",
                remedy="the reasons stand above; the features of the other rows have been computed",
            )


def instant(text: str) -> int:
    """Return an instant, microseconds since the epoch.

    Raises:
        typer.BadParameter: if it cannot be read or has no time zone.
    """
    from surveillance_pipelines.clock import to_us

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter(
            f"expected an instant with its time zone, such as 2024-03-06T14:30:00Z, got {text!r}", param_hint="--as-of"
        )
    return to_us(moment)


def bars_of_file(path: Path, *, tz: str | None, symbol: str | None, as_of: int | None) -> Known:
    """Return the bars of a file after saying which rows were left out and why.

    Raises:
        InvalidInputError: if there is no usable row, or the bars are not of one minute.
    """
    from surveillance_pipelines.commands.files import first_reason, read_known_bars_file

    found = read_known_bars_file(path, tz=tz, symbol=symbol, as_of=as_of)
    for note in found.notes:
        say(note, style="yellow")
    _show_refusals(found)
    if len(found.refusals) == found.rows_in:
        said = f"no row of {path} could be used: {first_reason(found) or 'it has none'}"
        remedy = "docs/market-data.md says what a file of bars looks like"
        raise InvalidInputError(said, remedy=remedy)
    if not found.frame.is_empty() and (timeframe := found.frame["timeframe"][0]) != "1m":
        remedy = "features are of 1-minute bars; give a finer file"
        raise InvalidInputError(f"expected 1-minute bars, {path} holds {timeframe}", remedy=remedy)
    return Known(
        str(path), found.frame, found.rows_in, refused=len(found.refusals), duplicates=found.duplicates,
        not_yet_known=found.not_yet_known,
    )  # fmt: skip


def bars_of_lake(platform: Platform, days: Days, *, as_of: int | None) -> Known:
    """Return the platform's own bars of some days (its last one when none is named), and the history before them.

    Raises:
        InvalidInputError: if the lake has no bars.
    """
    from surveillance_pipelines.features.batch import with_history

    held = platform.lake.days(_OWN_BARS)
    if not held:
        remedy = "`surveillance ingest` and `surveillance backfill` fill it; or name a file of bars"
        said = f"expected bars in the lake table {_OWN_BARS}, found none"
        raise InvalidInputError(said, remedy=remedy)
    last = days[1] or held[-1]
    counts: list[tuple[int, int, int, int]] = []

    def read(since: date, until: date) -> "pl.DataFrame":
        found = _known_bars(platform, since, until, as_of)
        counts.append((found.rows, found.duplicates, found.overruled, found.not_yet_known))
        return found.bars

    first = days[0] or last
    bars = with_history(read, first, last)
    rows, duplicates, overruled, later = counts[-1]
    return Known(
        "the lake", bars, rows, duplicates=duplicates, overruled=overruled, not_yet_known=later, days=(first, last)
    )


def _known_bars(platform: Platform, first: date, last: date, as_of: int | None) -> Known:
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.market.resolution import bars_known_at

    bars = platform.lake.read(_OWN_BARS, days=(first, last), schema=BAR_SCHEMA)
    if as_of is None:
        return Known("the lake", bars, bars.height)
    landed = platform.lake.read("bars_landed", days=(first, last), schema=BAR_SCHEMA)
    found = bars_known_at(bars, landed, as_of)
    return Known(
        "the lake", found.bars, found.rows_in, duplicates=found.duplicates, overruled=found.overruled,
        not_yet_known=found.not_yet_known,
    )  # fmt: skip


def _show_refusals(found: "FileResult") -> None:
    if not found.refusals:
        return
    counts = Counter(refusal.code for refusal in found.refusals)
    firsts = {refusal.code: refusal for refusal in reversed(found.refusals)}
    table(
        f"{len(found.refusals):,} of {found.rows_in:,} rows refused",
        ("reason", "rows", "first", "what was expected"),
        ((code, count, firsts[code].where, firsts[code].reason) for code, count in counts.most_common()),
        right=("rows",),
    )
