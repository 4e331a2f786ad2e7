"""Features of whole days, many symbols at once: the backfill's way through the kernel, bit-equal to the live one."""

from collections.abc import Callable, Collection, Iterator
from datetime import date, timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from surveillance_pipelines.clock import DAY_US, day_start_us
from surveillance_pipelines.contracts.market import BAR_SCHEMA
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features.inputs import kernel_inputs, market_context
from surveillance_pipelines.features.views import CORE_V1, HISTORY_BARS, FeatureView

_BAR_COLUMNS: Final = (
    "date", "symbol", "timeframe", "bar_start", "revision", "source", "event_time", "knowledge_time",
    "source_message_id", "close", "volume",
)  # fmt: skip

_HISTORY_DAYS: Final = 10
"""Calendar days read before the first wanted day: 512 minutes are two sessions, and ten days bridge any holidays."""

Rows = slice


def feature_schema(view: FeatureView = CORE_V1) -> pl.Schema:
    """Return the columns of the table ``features_<view>``: those that name the bar, then the features, float64."""
    return pl.Schema({name: BAR_SCHEMA[name] for name in _BAR_COLUMNS} | dict.fromkeys(view.columns, pl.Float64()))


def features_of_day(
    history: pl.DataFrame, day_bars: pl.DataFrame, sessions: SessionTable, view: FeatureView = CORE_V1
) -> pl.DataFrame:
    """Return the features of the revision-0 bars of one UTC day.

    Args:
        history: bars before that day; of every symbol the last 512 or all there are.
        day_bars: bars of one UTC day.
        sessions: of every calendar that the symbols trade on.
        view: which features.

    Returns:
        ``feature_schema(view)``, sorted by symbol and bar start. NaN where a feature is not defined yet.
    """
    days = day_bars["bar_start"].dt.date().unique().to_list()
    if len(days) > 1:
        raise ValueError(f"expected bars of one UTC day, was {len(days)} days; use features_of_days")
    bars = pl.concat([history.select(day_bars.columns), day_bars])
    return features_of_days(bars, days, sessions, view)


def features_of_days(
    bars: pl.DataFrame, days: Collection[date], sessions: SessionTable, view: FeatureView = CORE_V1
) -> pl.DataFrame:
    """Return the features of several UTC days in one pass, each day as ``features_of_day`` has it.

    Args:
        bars: the bars of those days and of every symbol at least 512 before the first (``with_history`` reads them).
        days: the days wanted; one without bars adds no rows.
        sessions: of every calendar that the symbols trade on.
        view: which features.

    Returns:
        ``feature_schema(view)``, sorted by symbol and bar start.
    """
    known = market_context(bars)
    if known.is_empty() or not days:
        return feature_schema(view).to_frame()
    inputs = kernel_inputs(known, sessions)
    starts = known["bar_start"].dt.timestamp("us").to_numpy()
    wanted = np.array(sorted(day_start_us(day) // DAY_US for day in days))
    taken = list(_symbol_days(known, starts // DAY_US, wanted))
    out = np.empty((len(known), len(view.columns)))
    for history, day in taken:
        _run_day(view, inputs[history], inputs[day], out[day])
    chosen = np.concatenate([np.arange(day.start, day.stop) for _, day in taken] or [np.empty(0, dtype=np.int64)])
    features = pl.from_numpy(out[chosen], schema=list(view.columns))
    return known.select(_BAR_COLUMNS)[chosen].hstack(features)


def latest_features(
    bars: pl.DataFrame, sessions: SessionTable, lookback: int, view: FeatureView = CORE_V1
) -> pl.DataFrame:
    """Return the features of the newest ``lookback`` revision-0 bars of each symbol (FE-03).

    Args:
        bars: history and the bars to score.
        sessions: of every calendar that the symbols trade on.
        lookback: bars per symbol, at least 1; a symbol with fewer gives what it has.
        view: which features.
    """
    if lookback < 1:
        raise ValueError(f"expected a lookback of at least 1 bar, was {lookback}")
    newest = bars.filter(pl.col("revision") == 0).sort("bar_start").group_by("symbol").tail(lookback)
    days = newest["bar_start"].dt.date().unique().to_list()
    features = features_of_days(bars, days, sessions, view)
    return features.group_by("symbol", maintain_order=True).tail(lookback)


def with_history(read: Callable[[date, date], pl.DataFrame], first: date, last: date) -> pl.DataFrame:
    """Read the bars of a range of days and enough before it: 512 per symbol, or as far back as it has any.

    Args:
        read: returns the bars of all symbols between two UTC dates, both included.
        first: first day wanted.
        last: last day wanted.
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
    """Return, of the symbols with bars in the range, those with too little history before it, and how much."""
    per_symbol = (
        bars.filter(pl.col("revision") == 0)
        .group_by("symbol")
        .agg(before=(pl.col("bar_start").dt.date() < first).sum(), total=pl.len())
        .filter((pl.col("total") > pl.col("before")) & (pl.col("before") < HISTORY_BARS))
    )
    return dict(per_symbol.select("symbol", "before").iter_rows())


def _symbol_days(
    bars: pl.DataFrame, day_numbers: NDArray[np.int64], wanted: NDArray[np.int64]
) -> Iterator[tuple[Rows, Rows]]:
    """Yield the rows of the history and of the day, per symbol and wanted day that it has bars on."""
    lengths = bars["symbol"].rle().struct.field("len").to_list()
    begin = 0
    for length in lengths:
        end = begin + length
        firsts = begin + np.searchsorted(day_numbers[begin:end], wanted, side="left")
        stops = begin + np.searchsorted(day_numbers[begin:end], wanted, side="right")
        for first, stop in zip(firsts.tolist(), stops.tolist(), strict=True):
            if stop > first:
                yield Rows(max(begin, first - HISTORY_BARS), first), Rows(first, stop)
        begin = end


def _run_day(
    view: FeatureView, history: NDArray[np.float64], day: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    state = np.zeros(view.state_size)
    view.run(state, history, np.empty((len(history), len(view.columns))))
    view.run(state, day, out)
