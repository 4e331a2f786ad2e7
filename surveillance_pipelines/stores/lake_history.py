"""Histories of symbols from ``bars_1m``, with the peers' returns; the bars of all peers are read once, day by day.

One symbol's history needs the returns of all symbols in the same minutes. If one new symbol arrives, only its own bars
are read in full, and the closes of its peers. If a second request follows for the same day, a queue is starting: the
histories of all symbols are then read in one pass and kept until each is asked for or no request follows for a while.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping
from datetime import date, timedelta
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.clock import day_start_us
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.engine.feature_history import BarColumns
from surveillance_pipelines.features.inputs import recorded
from surveillance_pipelines.features.market import MINUTE_US, log_returns, peer_returns

TABLE: Final = "bars_1m"
HISTORY_DAYS: Final = 10
"""Calendar days that are read first: 512 minutes are about two sessions, and ten days cover holidays."""

_CLOSES: Final = ("symbol", "bar_start", "close", "revision")
_FULL: Final = (*_CLOSES, "open", "high", "low", "volume", "market_return", "market_peers", "market_centre")
_PRICES: Final = ("open", "high", "low", "close")

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class BarReader(Protocol):
    """The part of the lake's interface that seeding uses."""

    def version(self, table: str) -> int | None: ...

    def days(self, table: str) -> list[date]: ...

    def read(
        self,
        table: str,
        *,
        days: Any,
        symbols: Collection[str] | None = None,
        columns: Any = None,
        schema: pl.Schema | None = None,
        version: int | None = None,
    ) -> pl.DataFrame: ...


class HistoryKey(NamedTuple):
    """What histories depend on: the table's version, the last day, the bars wanted before it, and the centre."""

    version: int | None
    day: date
    wanted: int
    centre: MarketCentre


class LakeHistory:
    """Reads histories of symbols from the lake. Used by one thread; ``forget`` may be called by another."""

    def __init__(self, lake: BarReader) -> None:
        self.lake: Final = lake
        self._last: HistoryKey | None = None  # of the last request
        self._kept: dict[str, BarColumns] = {}  # of all symbols not yet asked for, for that key
        self._known: tuple[HistoryKey, frozenset[str]] | None = None  # symbols with bars in the lake
        self._complete = False  # whether the histories of all symbols have been read for that key

    def forget(self) -> None:
        """Drop the histories kept for symbols that have not been asked for."""
        self._last, self._kept, self._complete, self._known = None, {}, False, None

    def bars(self, symbols: Collection[str], day: date, wanted: int, centre: MarketCentre) -> dict[str, BarColumns]:
        """Return the bars of symbols with their peers' returns: those of ``day``, and the ``wanted`` before it, if any.

        Args:
            symbols: the symbols; one without bars is absent from the result.
            day: the last UTC day.
            wanted: number of bars before that day.
            centre: which centre of the peers' returns; bars served with it have the recorded values.
        """
        key = HistoryKey(self.lake.version(TABLE), day, wanted, centre)
        again, self._last = key == self._last, key
        if not again:
            self._kept, self._complete, self._known = {}, False, None
        if key.version is None:
            return {}
        symbols = [symbol for symbol in symbols if self._has_bars(symbol, key)]
        lake = _Days(self.lake, key)
        if symbols and again and not self._complete:
            self._kept, self._complete = _read_all(lake), True
        kept = self._kept  # another thread may replace it
        found = {symbol: kept.pop(symbol) for symbol in symbols if symbol in kept}
        if missing := [symbol for symbol in symbols if symbol not in found]:
            found |= _read_some(lake, missing)
            if absent := set(missing) - found.keys():
                self._known = key, lake.symbols() - absent
        return found

    def _has_bars(self, symbol: str, key: HistoryKey) -> bool:
        """Return whether a symbol may have bars; unknown until a first symbol had none."""
        known = self._known
        return known is None or known[0] != key or symbol in known[1]


class _Days:
    """One version of the table, up to a day."""

    def __init__(self, lake: BarReader, key: HistoryKey) -> None:
        self.key: Final = key
        self.begin: Final = day_start_us(key.day)
        self._lake: Final = lake
        self._all: Final = [day for day in lake.days(TABLE) if day <= key.day]

    def within(self, reach: int) -> list[date]:
        """Return the days with bars, ascending, that are at most so many days before the last one."""
        return self._all[bisect_left(self._all, self.key.day - timedelta(days=reach)) :]

    def read(
        self, days: Collection[date], columns: Collection[str], symbols: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return columns of the revision-0 bars, sorted by symbol and start."""
        read = self._lake.read(
            TABLE, days=list(days), symbols=symbols, columns=columns, schema=BAR_SCHEMA, version=self.key.version
        )
        return read.filter(pl.col("revision") == 0).drop("revision").sort("symbol", "bar_start")

    def symbols(self) -> frozenset[str]:
        """Return the symbols with bars within the days that are searched for a symbol's first bars."""
        days = self.within(4 * HISTORY_DAYS)
        read = self._lake.read(TABLE, days=days, columns=("symbol",), schema=BAR_SCHEMA, version=self.key.version)
        return frozenset(read["symbol"].unique())


def _read_some(lake: _Days, symbols: Collection[str]) -> dict[str, BarColumns]:
    """Return the histories of a few symbols: their own bars in full, and the closes of all peers of those minutes."""
    wanted, reach, known = lake.key.wanted, HISTORY_DAYS, -1
    own = lake.read(lake.within(reach), _FULL, symbols)
    while (short := _short_of(own, symbols, lake)) and own.height > known:
        known, before = own.height, set(lake.within(reach))
        reach *= 4
        if older := [day for day in lake.within(reach) if day not in before]:
            own = pl.concat([lake.read(older, _FULL, short), own]).sort("symbol", "bar_start")
    own = _newest(own, wanted, lake)
    if own.is_empty():
        return {}
    if own.select(recorded(lake.key.centre).all()).item():
        return _columns(own, lake.key.centre)
    days = lake.within(reach)
    first = bisect_left(days, own.select(pl.col("bar_start").dt.date().min()).item())
    days = days[max(0, first - 1) :]  # from the day before the first bar, for the first returns
    carry = _Carry.before(lake, days, reach)
    parts = [carry.day(lake.read([day], _CLOSES), own.filter(pl.col("bar_start").dt.date() == day), lake.key.centre)
             for day in days]  # fmt: skip
    return _columns(pl.concat(parts).sort("symbol", "bar_start"), lake.key.centre)


def _read_all(lake: _Days) -> dict[str, BarColumns]:
    """Return the histories of all symbols, except those with too few bars within ten days, which are rare."""
    counts = pl.DataFrame(schema={"symbol": pl.String, "later": pl.UInt32})
    needed: list[tuple[date, pl.DataFrame]] = []  # days, newest first, with the number of later bars of each symbol
    for day in reversed(lake.within(HISTORY_DAYS)):
        needed.append((day, counts))
        if day == lake.key.day:
            continue
        own = lake.read([day], ("symbol", "bar_start", "revision")).group_by("symbol").len("later")
        counts = pl.concat([counts, own]).group_by("symbol").agg(pl.col("later").sum())
        if counts.height and counts["later"].min() >= lake.key.wanted:  # type: ignore[operator]
            break
    days = [day for day, _ in reversed(needed)]
    earlier = [day for day in lake.within(HISTORY_DAYS) if day < days[0]][-1:] if days else []
    carry = _Carry.before(lake, [*earlier, *days], HISTORY_DAYS)
    for day in earlier:
        carry.day(lake.read([day], _CLOSES), BAR_SCHEMA.to_frame().select(_FULL).drop("revision"), lake.key.centre)
    parts: dict[str, list[BarColumns]] = {}
    for day, later in reversed(needed):
        full = lake.read([day], _FULL)
        kept = full if day == lake.key.day else _tail(full, later, lake.key.wanted)
        for symbol, bars in _columns(carry.day(full, kept, lake.key.centre), lake.key.centre).items():
            parts.setdefault(symbol, []).append(bars)
    short = set(counts.filter(pl.col("later") < lake.key.wanted)["symbol"])
    return {symbol: BarColumns.joined(bars) for symbol, bars in parts.items() if symbol not in short}


class _Carry:
    """The last bar of each symbol before a day: its start, close and log return."""

    def __init__(self, names: list[str], starts: Integers, closes: Floats) -> None:
        self._names, self._starts, self._closes = names, starts, closes
        self._returns = np.full(len(names), np.nan)

    @classmethod
    def before(cls, lake: _Days, days: list[date], reach: int) -> "_Carry":
        """Return the last bars before the first day, of the symbols that have bars in the days but not in the first."""
        older = [day for day in lake.within(reach) if days and day < days[0]]
        names: set[str] = set()
        if older and len(days) > 1:
            first, others = (set(lake.read(some, ("symbol", "bar_start", "revision"))["symbol"].unique())
                             for some in (days[:1], days[1:]))  # fmt: skip
            names = others - first
        if not names:
            return cls([], np.empty(0, dtype=np.int64), np.empty(0))
        last = lake.read(older, _CLOSES, names).group_by("symbol", maintain_order=True).last()
        return cls(last["symbol"].to_list(), _us(last["bar_start"]), last["close"].to_numpy())

    def day(self, peers: pl.DataFrame, own: pl.DataFrame, centre: MarketCentre) -> pl.DataFrame:
        """Return ``own``, some bars of the next day, with the peers' returns; ``peers`` are all bars of that day."""
        names = sorted(set(self._names) | set(peers["symbol"].unique()))
        rank = pl.Series(names)
        codes = _codes(peers["symbol"], rank)
        before = _codes(pl.Series(self._names, dtype=pl.String), rank)
        at = np.searchsorted(codes, before)
        all_codes = np.insert(codes, at, before)
        starts = np.insert(_us(peers["bar_start"]), at, self._starts)
        closes = np.insert(peers["close"].to_numpy(), at, self._closes)
        returns = log_returns(all_codes, closes)
        returns[at + np.arange(len(at))] = self._returns
        filled = own
        if not own.is_empty():
            place = _places(all_codes, starts, _codes(own["symbol"], rank), _us(own["bar_start"]))
            derived = ~own.select(recorded(centre)).to_series().to_numpy()
            wanted = np.zeros(len(starts), dtype=np.bool_)
            wanted[place[derived]] = True
            values, counts = peer_returns(starts, all_codes, returns, MINUTE_US, centre=centre, wanted=wanted)
            kept = pl.Series(~derived)
            filled = own.with_columns(
                market_return=pl.when(kept).then(pl.col("market_return").fill_null(np.nan)).otherwise(values[place]),
                market_peers=pl.when(kept).then("market_peers").otherwise(pl.Series(counts[place]).cast(pl.Int32)),
                market_centre=pl.lit(centre),
            )
        ends = np.append(np.flatnonzero(np.diff(all_codes)), len(all_codes) - 1) if len(all_codes) else at[:0]
        self._names = [names[code] for code in all_codes[ends].tolist()]
        self._starts, self._closes, self._returns = starts[ends], closes[ends], returns[ends]
        return filled


def _short_of(own: pl.DataFrame, symbols: Collection[str], lake: _Days) -> list[str]:
    """Return the symbols with fewer bars before the last day than wanted."""
    counts = own.filter(pl.col("bar_start").dt.date() < lake.key.day).group_by("symbol").len()
    enough = set(counts.filter(pl.col("len") >= lake.key.wanted)["symbol"])
    return [symbol for symbol in symbols if symbol not in enough]


def _newest(own: pl.DataFrame, wanted: int, lake: _Days) -> pl.DataFrame:
    """Return the bars of the last day and the wanted ones before it."""
    today = pl.col("bar_start").dt.date() == lake.key.day
    parts = own.filter(~today).group_by("symbol", maintain_order=True).tail(wanted), own.filter(today)
    return pl.concat(parts).sort("symbol", "bar_start")


def _tail(full: pl.DataFrame, later: pl.DataFrame, wanted: int) -> pl.DataFrame:
    """Return the last bars of each symbol, as many as are wanted in addition to the later ones."""
    left = full.select("symbol").join(later, on="symbol", how="left", maintain_order="left")
    place = pl.int_range(pl.len()).reverse().over("symbol")
    return full.filter(left.with_columns(place=place).select(
        pl.col("place") + pl.col("later").fill_null(0).cast(pl.Int64) < wanted
    ).to_series())  # fmt: skip


def _columns(bars: pl.DataFrame, centre: MarketCentre) -> dict[str, BarColumns]:
    """Return the bars of each symbol of a sorted frame; every array is a copy, which keeps no other one alive."""
    starts = _us(bars["bar_start"])
    columns = [bars[name].to_numpy() for name in _PRICES]
    columns.append(bars["volume"].fill_null(0.0).fill_nan(0.0).to_numpy())
    columns += [bars["market_return"].fill_null(np.nan).to_numpy(), bars["market_peers"].fill_null(0).to_numpy()]
    found, begin = dict[str, BarColumns](), 0
    for length, symbol in bars["symbol"].rle().struct.unnest().iter_rows():
        end = begin + length
        found[symbol] = BarColumns(
            starts[begin:end].copy(), np.stack([column[begin:end] for column in columns]), centre
        )
        begin = end
    return found


def _codes(symbols: pl.Series, names: pl.Series) -> Integers:
    """Return the position of each symbol in sorted names."""
    ranks: Mapping[str, int] = dict(zip(names.to_list(), range(len(names)), strict=True))
    runs = symbols.rle().struct.unnest()
    codes = np.array([ranks[name] for name in runs["value"].to_list()], dtype=np.int64)
    return np.repeat(codes, runs["len"].to_numpy())


def _places(codes: Integers, starts: Integers, of_codes: Integers, of_starts: Integers) -> Integers:
    """Return the row of each bar in rows sorted by code, then start."""
    first = int(min(starts.min(), of_starts.min()))
    span = int(max(starts.max(), of_starts.max())) - first + 1
    return np.searchsorted(codes * span + (starts - first), of_codes * span + (of_starts - first))


def _us(instants: pl.Series) -> Integers:
    return instants.dt.timestamp("us").to_numpy()
