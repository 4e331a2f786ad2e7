"""Features of whole days for many symbols, as used by backfills; bit-identical to the live features."""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from surveillance_pipelines.clock import DAY_US, day_start_us
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features.batch_kernel import symbol_features
from surveillance_pipelines.features.inputs import input_columns, market_context
from surveillance_pipelines.features.views import CORE_V1, CORE_V2, HISTORY_BARS, FeatureView

_BAR_COLUMNS: Final = (
    "date", "symbol", "timeframe", "bar_start", "revision", "source", "event_time", "knowledge_time",
    "source_message_id", "close", "volume",
)  # fmt: skip

_HISTORY_DAYS: Final = 10
"""Calendar days read before the first requested day: 512 minutes are two sessions, and ten days cover any holidays."""

BATCH_KERNELS: Final[dict[str, Callable[..., None]]] = {view.name: symbol_features for view in (CORE_V1, CORE_V2)}
"""The batch form of each view's kernel. It is not part of the view, because the live lane does not use it."""

Integers = NDArray[np.int64]
_NO_ROWS: Final[Integers] = np.empty(0, dtype=np.int64)


class _Slab(NamedTuple):
    """Row numbers of one symbol: start of the history, start and end of the requested bars, and the days.

    A day is (start of its history, start, end).
    """

    begin: int
    first: int
    end: int
    days: list[tuple[int, int, int]]


def feature_schema(view: FeatureView = CORE_V1) -> pl.Schema:
    """Return the schema of the table ``features_<view>``: columns that identify the bar, then the features, float64."""
    return pl.Schema({name: BAR_SCHEMA[name] for name in _BAR_COLUMNS} | dict.fromkeys(view.columns, pl.Float64()))


def features_of_day(
    history: pl.DataFrame, day_bars: pl.DataFrame, sessions: SessionTable, view: FeatureView = CORE_V1
) -> pl.DataFrame:
    """Return the features of the revision-0 bars of one UTC day.

    Args:
        history: bars before that day; of every symbol the last 512, or all if there are fewer.
        day_bars: bars of one UTC day.
        sessions: sessions of every calendar that the symbols trade on.
        view: the feature view.

    Returns:
        ``feature_schema(view)``, sorted by symbol and bar start. NaN where a feature is not defined yet.
    """
    days = day_bars["bar_start"].dt.date().unique().to_list()
    if len(days) > 1:
        raise ValueError(f"expected bars of one UTC day, got {len(days)} days; use features_of_days")
    bars = pl.concat([history.select(day_bars.columns), day_bars])
    return features_of_days(bars, days, sessions, view)


def features_of_days(
    bars: pl.DataFrame,
    days: Collection[date],
    sessions: SessionTable,
    view: FeatureView = CORE_V1,
    *,
    columns: Collection[str] | None = None,
    symbols: Collection[str] | None = None,
    advanced: Callable[[int], object] = int,
) -> pl.DataFrame:
    """Return the features of several UTC days in one pass, equal to those of ``features_of_day`` for each day.

    Args:
        bars: bars of those days, and of every symbol at least 512 before the first day (see ``with_history``).
        days: the requested days; a day without bars adds no rows.
        sessions: sessions of every calendar that the symbols trade on.
        view: the feature view.
        columns: requested columns of the view; None for all. Fewer columns are faster and have the same values.
        symbols: requested symbols; None for all. The other symbols still count as peers.
        advanced: called after each symbol with the symbol's number of bars.

    Returns:
        ``feature_schema(view)`` with the requested columns only, sorted by symbol and bar start.

    Raises:
        InvalidInputError: if a column is not one of the view's.
    """
    flags = chosen_columns(view, columns)
    names = [name for name, wanted in zip(view.columns, flags, strict=True) if wanted]
    known = market_context(bars, view.market_centre)
    if known.is_empty() or not days:
        return feature_schema(view).to_frame().select(*_BAR_COLUMNS, *names)
    numbers = known["bar_start"].dt.timestamp("us").to_numpy() // DAY_US
    wanted = np.array(sorted(day_start_us(day) // DAY_US for day in days))
    slabs = list(_slabs(known, numbers, wanted, symbols))
    inputs = input_columns(known, sessions)
    counts = [slab.end - slab.first for slab in slabs]
    out, compute = np.empty((len(view.columns), sum(counts))), BATCH_KERNELS[view.name]

    def fill(slab: _Slab, at: int) -> None:
        compute(inputs, slab.begin, slab.first, slab.end, days=np.array(slab.days), out=out, at=at, chosen=flags)

    # Use as many threads as polars may use: the kernel releases the GIL, and each symbol writes to separate columns.
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        for count, _ in zip(counts, pool.map(fill, slabs, accumulate(counts, initial=0)), strict=True):
            advanced(count)
    return _frame(known, slabs, out, {name: view.columns.index(name) for name in names})


def chosen_columns(view: FeatureView, columns: Collection[str] | None) -> NDArray[np.bool_]:
    """Return a mask of the requested features of a view, bool[F].

    Args:
        view: the feature view.
        columns: names; None for all.

    Raises:
        InvalidInputError: if ``columns`` is empty or contains an unknown name.
    """
    wanted = set(view.columns if columns is None else columns)
    unknown = sorted(wanted - set(view.columns))
    if unknown or not wanted:
        got = ", ".join(unknown) or "none"
        raise InvalidInputError(f"expected columns of feature view {view.name} ({', '.join(view.columns)}), got {got}")
    return np.array([name in wanted for name in view.columns])


def latest_features(
    bars: pl.DataFrame, sessions: SessionTable, lookback: int, view: FeatureView = CORE_V1
) -> pl.DataFrame:
    """Return the features of the newest ``lookback`` revision-0 bars of each symbol (FE-03).

    Args:
        bars: history and the bars to score.
        sessions: sessions of every calendar that the symbols trade on.
        lookback: bars per symbol, at least 1; for a symbol with fewer bars, all of them.
        view: the feature view.
    """
    if lookback < 1:
        raise ValueError(f"expected a lookback of at least 1 bar, got {lookback}")
    newest = bars.filter(pl.col("revision") == 0).sort("bar_start").group_by("symbol").tail(lookback)
    days = newest["bar_start"].dt.date().unique().to_list()
    features = features_of_days(bars, days, sessions, view)
    return features.group_by("symbol", maintain_order=True).tail(lookback)


def with_history(read: Callable[[date, date], pl.DataFrame], first: date, last: date) -> pl.DataFrame:
    """Read the bars of a range of days and sufficient history: 512 bars per symbol, or all if there are fewer.

    Args:
        read: returns the bars of all symbols between two UTC dates, both included.
        first: first requested day.
        last: last requested day.
    """
    reach = _HISTORY_DAYS
    bars = read(first - timedelta(days=reach), last)
    short = _bars_before(bars, first)
    while short:
        reach *= 4
        wider = read(first - timedelta(days=reach), last)
        counts = _bars_before(wider, first)
        grew = any(counts.get(symbol, HISTORY_BARS) > count for symbol, count in short.items())
        bars, short = wider, counts
        if not grew:
            break
    return bars


def _bars_before(bars: pl.DataFrame, first: date) -> dict[str, int]:
    """Return the symbols in the range that have too little history before it, with their number of history bars."""
    per_symbol = (
        bars.filter(pl.col("revision") == 0)
        .group_by("symbol")
        .agg(before=(pl.col("bar_start").dt.date() < first).sum(), total=pl.len())
        .filter((pl.col("total") > pl.col("before")) & (pl.col("before") < HISTORY_BARS))
    )
    return dict(per_symbol.select("symbol", "before").iter_rows())


def _slabs(
    bars: pl.DataFrame, day_numbers: Integers, wanted: Integers, symbols: Collection[str] | None
) -> Iterator[_Slab]:
    """Yield the rows of each requested symbol that has bars on requested days."""
    begin = 0
    for length, symbol in bars["symbol"].rle().struct.unnest().iter_rows():
        end = begin + length
        if symbols is not None and symbol not in symbols:
            begin = end
            continue
        firsts = begin + np.searchsorted(day_numbers[begin:end], wanted, side="left")
        stops = begin + np.searchsorted(day_numbers[begin:end], wanted, side="right")
        days = [
            (max(begin, first - HISTORY_BARS), first, stop)
            for first, stop in zip(firsts.tolist(), stops.tolist(), strict=True)
            if stop > first
        ]
        if days:
            yield _Slab(days[0][0], days[0][1], days[-1][2], days)
        begin = end


def _frame(bars: pl.DataFrame, slabs: list[_Slab], out: NDArray[np.float64], rows: dict[str, int]) -> pl.DataFrame:
    """Return the requested bars with their features; ``rows`` maps a column to its row of ``out``."""
    places = np.concatenate([np.arange(start, stop) for slab in slabs for _, start, stop in slab.days] or [_NO_ROWS])
    within = np.concatenate([np.arange(slab.first, slab.end) for slab in slabs] or [_NO_ROWS])
    if len(within) > len(places):  # days in between that were not requested
        out = out[:, np.isin(within, places, assume_unique=True)]
    named = bars.select(_BAR_COLUMNS)[places]
    return named.hstack([pl.Series(name, out[row]) for name, row in rows.items()])
