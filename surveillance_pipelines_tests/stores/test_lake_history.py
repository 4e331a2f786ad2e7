"""Histories read day by day for some or all symbols equal those of one frame of all bars, bit for bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.engine.feature_history import BarColumns
from surveillance_pipelines.features.inputs import market_context
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.lake_history import LakeHistory
from surveillance_pipelines_tests.features.bars import market_bars, same_bits, symbol_bars

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")
WANTED = 300


class CountingLake(Lake):
    """Counts the rows that are read in full, and the calls."""

    reads: list[tuple[int, bool]]

    @contextmanager
    def counted(self) -> Iterator[None]:
        object.__setattr__(self, "reads", [])
        yield

    def read(self, table: str, **options) -> pl.DataFrame:
        frame = super().read(table, **options)
        self.reads.append((frame.height, "open" in frame.columns))
        return frame


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    """Six symbols, of which one has few bars, one begins late, and some bars were served."""
    full = market_bars(seed=3, count=1500, symbols=SYMBOLS[:4])
    dense = [symbol_bars(name, seed, 5000, gaps=0.002) for seed, name in enumerate(SYMBOLS[4:])]
    last = dense[0]["bar_start"].max()
    rare = symbol_bars("RARE", 9, 40, gaps=0.0).with_columns(bar_start=pl.col("bar_start") + pl.duration(days=1))
    late = symbol_bars("LATE", 8, 100, gaps=0.0).with_columns(
        bar_start=last - pl.duration(minutes=pl.int_range(100, 0, -1))
    )
    rows = pl.concat([full, *dense, rare, late]).with_columns(date=pl.col("bar_start").dt.date())
    served = pl.col("symbol").is_in(["BBB", "EEE"]) & (pl.int_range(pl.len()) % 3 == 0)
    return rows.filter(pl.col("bar_start") <= last).with_columns(
        market_return=pl.when(served).then(0.125),
        market_peers=pl.when(served).then(7).cast(pl.Int32),
        market_centre=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("median")),
    )


@pytest.fixture
def lake(tmp_path: Path, bars: pl.DataFrame) -> CountingLake:
    lake = CountingLake(str(tmp_path / "lake"))
    with lake.counted():
        lake.write_days("bars_1m", bars, days=bars["date"].unique().to_list())
    return lake


def last_day(bars: pl.DataFrame) -> date:
    return bars.filter(pl.col("symbol") == "EEE")["date"].max()  # type: ignore[return-value]


def expected(bars: pl.DataFrame, symbol: str, centre: MarketCentre) -> pl.DataFrame:
    day = last_day(bars)
    read = bars.filter(pl.col("date") >= day - timedelta(days=40))
    own = market_context(read, centre).filter(pl.col("symbol") == symbol)
    before, today = own.filter(pl.col("date") < day), own.filter(pl.col("date") == day)
    return pl.concat([before.tail(WANTED), today])


def assert_same(found: BarColumns, bars: pl.DataFrame) -> None:
    assert found.starts.tolist() == bars["bar_start"].dt.timestamp("us").to_list()
    names = ("open", "high", "low", "close", "volume", "market_return", "market_peers")
    rows = [bars[name].cast(pl.Float64).fill_null(0.0).to_numpy() for name in names]
    assert same_bits(found.values, np.stack(rows))


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_history_of_some_symbols_equals_that_of_one_frame(lake, bars, centre):
    found = LakeHistory(lake).bars(["EEE", "BBB", "LATE", "RARE", "NONE"], last_day(bars), WANTED, centre)
    assert set(found) == {"EEE", "BBB", "LATE", "RARE"}
    for symbol, columns in found.items():
        assert columns.centre == centre
        assert_same(columns, expected(bars, symbol, centre))


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_history_of_all_symbols_after_a_second_request_equals_that_of_one_frame(lake, bars, centre):
    history = LakeHistory(lake)
    day = last_day(bars)
    history.bars(["AAA"], day, WANTED, centre)
    for symbol in ("EEE", "FFF", "LATE", "RARE", "DDD", "AAA"):
        assert_same(history.bars([symbol], day, WANTED, centre)[symbol], expected(bars, symbol, centre))


def test_all_symbols_are_read_once_and_symbols_without_bars_are_known(lake, bars):
    history, day = LakeHistory(lake), last_day(bars)
    history.bars(["EEE"], day, WANTED, "mean")
    history.bars(["FFF"], day, WANTED, "mean")
    with lake.counted():
        assert history.bars(["EEE"], day, WANTED, "mean").keys() == {"EEE"}
        assert lake.reads == []
        assert history.bars(["NONE"], day, WANTED, "mean") == {}
        asked = len(lake.reads)
        assert history.bars(["NONE", "NEITHER"], day, WANTED, "mean") == {}
        assert len(lake.reads) == asked
    history.forget()
    with lake.counted():
        assert history.bars(["FFF"], day, WANTED, "mean").keys() == {"FFF"}
        assert lake.reads != []


def test_changed_table_is_read_again(lake, bars):
    history, day = LakeHistory(lake), last_day(bars)
    before = history.bars(["EEE"], day, WANTED, "mean")["EEE"]
    history.bars(["FFF"], day, WANTED, "mean")
    today = bars.filter(pl.col("date") == day).with_columns(close=pl.col("close") * 2, high=pl.col("high") * 2)
    lake.write_days("bars_1m", today, days=[day])
    after = history.bars(["EEE"], day, WANTED, "mean")["EEE"]
    assert after.values[3, -1] == 2 * before.values[3, -1]


def test_lake_without_bars_gives_no_history(tmp_path):
    assert LakeHistory(Lake(str(tmp_path))).bars(["AAA"], date(2024, 3, 5), WANTED, "mean") == {}
