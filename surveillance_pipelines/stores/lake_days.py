"""The days of ``bars_1m``: how many bars each symbol has on a day, and the bars as arrays, by symbol and start."""

import sys
from bisect import bisect_left
from collections.abc import Collection, Iterator
from datetime import date, timedelta
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.features.inputs import recorded

HISTORY_DAYS: Final = 10
"""Calendar days that are read first: 512 minutes are about two sessions, and ten days cover holidays."""

_VALUES: Final = ("open", "high", "low", "close", "volume")
_RECORDED: Final = ("market_return", "market_peers", "market_centre")

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Files = tuple[str, ...]


class BarTable(Protocol):
    """The part of an open table that seeding uses; see ``OpenTable``."""

    def refresh(self) -> None: ...

    def files(self) -> dict[date, Files]: ...

    def read(
        self,
        *,
        days: Collection[date],
        symbols: Collection[str] | None = None,
        columns: list[str] | None = None,
        schema: pl.Schema | None = None,
    ) -> pl.DataFrame: ...


class DayRows(NamedTuple):
    """Bars of revision 0, sorted by symbol and start.

    Attributes:
        names: symbols, ascending.
        lengths: int64[len(names)], number of bars of each symbol.
        starts: int64[n], microseconds since the epoch.
        values: f8[k, n], one row per column.
    """

    names: list[str]
    lengths: Integers
    starts: Integers
    values: Floats

    @property
    def ends(self) -> Integers:
        """Position after the last bar of each symbol, int64[len(names)]."""
        return np.cumsum(self.lengths)


class RawBars(NamedTuple):
    """Bars of one symbol, without the market returns that must be derived.

    Attributes:
        starts: int64[n], microseconds since the epoch, ascending.
        values: f8[5, n]: open, high, low, close, volume.
        recorded: f8[3, n]: 1 if the bar was served with the wanted centre, then its market return and its number of
            peers; None if no bar was.
    """

    starts: Integers
    values: Floats
    recorded: Floats | None

    def since(self, first: int) -> "RawBars":
        """Return the bars from a position on, as copies, which keep no other array alive."""
        recorded = None if self.recorded is None else self.recorded[:, first:].copy()
        return RawBars(self.starts[first:].copy(), self.values[:, first:].copy(), recorded)

    @classmethod
    def joined(cls, parts: "list[RawBars]") -> "RawBars":
        """Return consecutive parts as one."""
        if len(parts) == 1:
            return parts[0]
        recorded = None
        if any(part.recorded is not None for part in parts):
            empty = [np.zeros((3, len(part.starts))) if part.recorded is None else part.recorded for part in parts]
            recorded = np.concatenate(empty, axis=1)
        starts, values = [part.starts for part in parts], [part.values for part in parts]
        return cls(np.concatenate(starts), np.concatenate(values, axis=1), recorded)


class LakeDays:
    """Reads days of the table as of its last refresh; keeps how many bars each symbol has on a day."""

    def __init__(self, table: BarTable) -> None:
        self._table: Final = table
        self._counts: Final[dict[Files, dict[str, int]]] = {}

    def refresh(self) -> None:
        """Go to the newest version of the table, and forget the counts of files that it no longer has."""
        self._table.refresh()
        current = set(self._table.files().values())
        for files in [files for files in self._counts if files not in current]:
            del self._counts[files]

    def within(self, day: date, reach: int) -> list[date]:
        """Return the days with bars, ascending, up to ``day`` and at most ``reach`` days before it."""
        days = list(self._table.files())
        return days[bisect_left(days, day - timedelta(days=reach)) : bisect_left(days, day + timedelta(days=1))]

    def files(self, day: date) -> Files:
        """Return the files of a day, which identify its rows."""
        return self._table.files()[day]

    def counts(self, day: date) -> dict[str, int]:
        """Return symbol → number of bars of revision 0 on a day."""
        if (counts := self._counts.get(self.files(day))) is None:
            frame = self._read([day], ("symbol",), None)
            runs = frame["symbol"].rle().struct.unnest()
            counts = self._keep_counts(day, runs["value"].to_list(), runs["len"].to_list())
        return counts

    def closes(self, days: Collection[date], symbols: Collection[str] | None = None) -> DayRows:
        """Return the bars of days with their closes, f8[1, n]."""
        frame = self._read(days, ("symbol", "bar_start", "close"), symbols)
        rows = _rows(_sorted(frame), ("close",))
        if symbols is None and len(days) == 1:
            self._keep_counts(next(iter(days)), rows.names, rows.lengths.tolist())
        return rows

    def bars(
        self, days: Collection[date], symbols: Collection[str] | None, centre: MarketCentre
    ) -> Iterator[tuple[str, RawBars]]:
        """Yield the bars of each symbol in days; the arrays of all symbols share memory."""
        frame = self._read(days, ("symbol", "bar_start", *_VALUES, *_RECORDED), symbols)
        frame = _sorted(frame).with_columns(pl.col("volume").fill_null(0.0).fill_nan(0.0), recorded=recorded(centre))
        served = None
        if frame["recorded"].any():
            served = np.stack([
                frame["recorded"].cast(pl.Float64).to_numpy(),
                frame["market_return"].fill_null(np.nan).to_numpy(),
                frame["market_peers"].fill_null(0).cast(pl.Float64).to_numpy(),
            ])  # fmt: skip
        rows, begin = _rows(frame, _VALUES), 0
        for name, end in zip(rows.names, rows.ends.tolist(), strict=True):
            own = None if served is None else served[:, begin:end]
            yield name, RawBars(rows.starts[begin:end], rows.values[:, begin:end], own)
            begin = end

    def _keep_counts(self, day: date, names: list[str], lengths: list[int]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for name, length in zip(map(sys.intern, names), lengths, strict=True):
            counts[name] = counts.get(name, 0) + length
        self._counts[self.files(day)] = counts
        return counts

    def _read(self, days: Collection[date], columns: tuple[str, ...], symbols: Collection[str] | None) -> pl.DataFrame:
        read = self._table.read(days=list(days), symbols=symbols, columns=[*columns, "revision"], schema=BAR_SCHEMA)
        first = read["revision"] == 0
        return (read if first.all() else read.filter(first)).drop("revision")


def _sorted(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame sorted by symbol and start; one file is already, and looking is cheaper than sorting."""
    starts = _us(frame["bar_start"])
    names = frame["symbol"].rle().struct.unnest()
    ends = np.cumsum(names["len"].to_numpy().astype(np.int64))
    rises = np.diff(starts) > 0
    rises[ends[:-1] - 1] = True  # another symbol
    values = names["value"]
    ascending = len(values) < 2 or bool((values.slice(1) > values.slice(0, len(values) - 1)).all())
    return frame if ascending and rises.all() else frame.sort("symbol", "bar_start")


def _rows(frame: pl.DataFrame, columns: tuple[str, ...]) -> DayRows:
    runs = frame["symbol"].rle().struct.unnest()
    values = np.empty((len(columns), frame.height))
    for row, name in zip(values, columns, strict=True):
        row[:] = frame[name].to_numpy()
    return DayRows(runs["value"].to_list(), runs["len"].to_numpy().astype(np.int64), _us(frame["bar_start"]), values)


def _us(instants: pl.Series) -> Integers:
    return instants.dt.timestamp("us").to_numpy()
