"""Real markets for the benchmark of detection, with copies of their last days that hold independent anomalies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.harness import REPOSITORY
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.evaluation.independent_anomalies import SIZES, plant_independent
from surveillance_pipelines.evaluation.thresholds import BARS_PER_DAY
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.features.views import CORE_V2
from surveillance_pipelines.market.bar_frames import complete_bars
from surveillance_pipelines.market.calendars import build_sessions

Scores = npt.NDArray[np.float64]
Scorer = Callable[[pl.DataFrame], Scores]
"""Feature rows of ``core_v2``, sorted by symbol and start, float64[n] out: larger is more anomalous."""

DATA: Final = REPOSITORY.parent / "shared" / "data"
VIEW: Final = CORE_V2
_COLUMNS: Final = ("symbol", "bar_start", "open", "high", "low", "close", "volume")
_MARGIN: Final = timedelta(days=10)


@dataclass(frozen=True, slots=True)
class MarketSpec:
    """One market: where its bars are, its symbols and days.

    Attributes:
        name: name for display.
        path: file below the data folder.
        symbols: the symbols; symbols without volume are left out.
        calendar: their trading calendar.
        first: first training day.
        test: first test day.
        last: last test day.
        copies: planted copies per size, for at least 100 events per kind and size.
    """

    name: str
    path: str
    symbols: tuple[str, ...]
    calendar: str
    first: date
    test: date
    last: date
    copies: int


MARKETS: Final = (
    MarketSpec(
        "US stocks, March and April 2022", "equity_minute/yahoo_1m_2019_2022.parquet",
        ("AAPL", "GME", "NFLX", "TSLA", "UVXY"), "XNYS", date(2022, 3, 14), date(2022, 3, 28), date(2022, 4, 7), 18,
    ),
    MarketSpec(
        "US funds, December 2019 and January 2020", "equity_minute/yahoo_1m_2019_2022.parquet",
        ("EWA", "IBB", "KRE", "NUGT", "SPY", "STZ", "TNA", "XBI"), "XNYS",
        date(2019, 12, 13), date(2019, 12, 30), date(2020, 1, 8), 12,
    ),
    MarketSpec(
        "BTC-PERP, January 2022", "crypto/nautilus_btcperp_1m.parquet", ("BTC-PERP",), "24/7",
        date(2022, 1, 1), date(2022, 1, 15), date(2022, 1, 21), 90,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """Feature rows of a market.

    Attributes:
        spec: the market.
        sessions: sessions of its calendar.
        bars: bars of all days, ``BAR_SCHEMA``.
        train: feature rows of the training days.
        clean: feature rows of the test days.
        planted: size → feature rows of the planted copies, with ``copy``.
        events: size → ``EVENT_SCHEMA`` with ``copy``.
    """

    spec: MarketSpec
    sessions: SessionTable
    bars: pl.DataFrame
    train: pl.DataFrame
    clean: pl.DataFrame
    planted: Mapping[str, pl.DataFrame]
    events: Mapping[str, pl.DataFrame]

    @property
    def symbol_days(self) -> float:
        """Clean test bars in units of the budget's day, ``BARS_PER_DAY`` bars of one symbol."""
        return self.clean.height / BARS_PER_DAY


def load_market(spec: MarketSpec, data: Path = DATA, *, copies: int | None = None) -> Market:
    """Read the regular sessions of a market, and plant the copies of its test days; None for the market's number."""
    sessions = SessionTable.from_frame(build_sessions(spec.calendar, spec.first - _MARGIN, spec.last + _MARGIN))
    bars = _bars(spec, data)
    features = _features(bars, sessions, spec.first)
    planted, events = {}, {}
    for size in SIZES:
        rows, found = [], []
        for copy in range(spec.copies if copies is None else copies):
            changed = plant_independent(bars.filter(pl.col("date") >= spec.test), sessions, size=size, seed=copy)
            whole = pl.concat([bars.filter(pl.col("date") < spec.test), changed.bars])
            rows.append(_features(whole, sessions, spec.test).with_columns(copy=pl.lit(copy)))
            found.append(changed.events.with_columns(copy=pl.lit(copy)))
        if rows:
            planted[size], events[size] = pl.concat(rows), pl.concat(found)
    return Market(
        spec=spec,
        sessions=sessions,
        bars=bars,
        train=features.filter(pl.col("date") < spec.test),
        clean=features.filter(pl.col("date") >= spec.test),
        planted=planted,
        events=events,
    )


def _bars(spec: MarketSpec, data: Path) -> pl.DataFrame:
    raw = pl.read_parquet(data / spec.path, glob=False).rename({"ts": "bar_start"})
    if "session" in raw.columns:
        raw = raw.filter(pl.col("session") == "regular")
    day = pl.col("bar_start").dt.date()
    wanted = raw.filter(pl.col("symbol").is_in(spec.symbols), day >= spec.first, day <= spec.last)
    chosen = wanted.select(*_COLUMNS).with_columns(pl.col("volume").cast(pl.Float64))
    return complete_bars(chosen, source="file", adjustment="none", timeframe="1m", batch_id="benchmark").sort(
        "symbol", "bar_start"
    )


def _features(bars: pl.DataFrame, sessions: SessionTable, first: date) -> pl.DataFrame:
    days = [day for day in bars["date"].unique().sort() if day >= first]
    return features_of_days(bars, days, sessions, VIEW).sort("symbol", "bar_start")
