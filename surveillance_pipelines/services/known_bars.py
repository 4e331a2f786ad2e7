"""Bars of a file or of the lake, as known at an instant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.market.files.options import FileOptions
    from surveillance_pipelines.market.row_checks import RowRefusal

Days = tuple[date | None, date | None]
"""First and last UTC day, both included; None means unbounded."""

_BARS_TABLE: Final = "bars_1m"


@dataclass(frozen=True, slots=True)
class KnownBars:
    """Bars with their revisions, and counts of the rows left out.

    Attributes:
        name: origin of the bars, for display.
        bars: ``BAR_SCHEMA``, including history and peers.
        rows: rows read = bars + refusals + the counts below.
        refusals: invalid rows with their reasons.
        duplicates: number of rows that repeat a known row.
        overruled: number of rows replaced by a source with precedence.
        not_yet_known: number of rows that became known after the given instant.
        days: days of the bars that are not only history; None means unbounded.
        notes: assumptions of the reader.
    """

    name: str
    bars: "pl.DataFrame"
    rows: int
    refusals: "Sequence[RowRefusal]" = ()
    duplicates: int = 0
    overruled: int = 0
    not_yet_known: int = 0
    days: Days = (None, None)
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> int:
        return len(self.refusals)

    def within(self, days: Days, symbols: tuple[str, ...]) -> "pl.DataFrame":
        """Return the revision-0 bars of the given days and symbols (empty means all).

        Raises:
            InvalidInputError: if there is no such bar.
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
            got = held if self.bars.height else f"none ({self.not_yet_known:,} became known later)"
            raise InvalidInputError(
                f"expected bars of {asked}, {self.name} has {got}",
                remedy="select other symbols or days, or set a later --as-of",
            )
        return found

    def require_mostly_valid(self) -> None:
        """Raise ``InvalidInputError`` if more than half of the rows were refused: probably the file holds no bars."""
        if self.refused * 2 > self.rows:
            raise InvalidInputError(
                f"expected at least half of the rows of {self.name} to be valid, got {self.refused:,} of {self.rows:,} "
                "rows refused",
                remedy="see the reasons above; the features of the valid rows were computed",
            )


def bars_of_file(path: Path, options: "FileOptions", *, as_of: int | None) -> KnownBars:
    """Return the bars of a file.

    Raises:
        InvalidInputError: if no row is valid, or the bars are not 1-minute bars.
    """
    from surveillance_pipelines.market.files.bars import read_known_bars

    found = read_known_bars(path, options, as_of=as_of)
    if len(found.refusals) == found.rows_in:
        raise InvalidInputError(
            f"expected bars in {path}, got no valid row: {found.first_reason or 'the file has no rows'}",
            remedy="docs/market-data.md describes the file format",
        )
    if not found.frame.is_empty() and (timeframe := found.frame["timeframe"][0]) != "1m":
        remedy = "use a file of 1-minute bars; features are computed from no other bars"
        raise InvalidInputError(f"expected 1-minute bars, got {timeframe} bars in {path}", remedy=remedy)
    return KnownBars(
        str(path), found.frame, found.rows_in, refusals=found.refusals, duplicates=found.duplicates,
        not_yet_known=found.not_yet_known, notes=found.notes,
    )  # fmt: skip


def bars_of_lake(stores: Stores, days: Days, *, as_of: int | None) -> KnownBars:
    """Return the bars of the lake of the given days (default: the last day), with the history before them.

    Raises:
        InvalidInputError: if the lake has no bars.
    """
    from surveillance_pipelines.features.batch import with_history

    held = stores.lake.days(_BARS_TABLE)
    if not held:
        remedy = "fill it with `surveillance ingest` and `surveillance backfill`, or pass a file of bars"
        raise InvalidInputError(f"expected bars in the lake table {_BARS_TABLE}, found none", remedy=remedy)
    last = days[1] or held[-1]
    counts: list[tuple[int, int, int, int]] = []

    def read(since: date, until: date) -> "pl.DataFrame":
        found = _known_bars(stores, since, until, as_of)
        counts.append((found.rows, found.duplicates, found.overruled, found.not_yet_known))
        return found.bars

    first = days[0] or last
    bars = with_history(read, first, last)
    rows, duplicates, overruled, later = counts[-1]
    return KnownBars(
        "the lake", bars, rows, duplicates=duplicates, overruled=overruled, not_yet_known=later, days=(first, last)
    )


def _known_bars(stores: Stores, first: date, last: date, as_of: int | None) -> KnownBars:
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA
    from surveillance_pipelines.market.source_resolution import bars_known_at

    bars = stores.lake.read(_BARS_TABLE, days=(first, last), schema=BAR_SCHEMA)
    if as_of is None:
        return KnownBars("the lake", bars, bars.height)
    landed = stores.lake.read("bars_landed", days=(first, last), schema=BAR_SCHEMA)
    found = bars_known_at(bars, landed, as_of)
    return KnownBars(
        "the lake", found.bars, found.rows_in, duplicates=found.duplicates, overruled=found.overruled,
        not_yet_known=found.not_yet_known,
    )  # fmt: skip
