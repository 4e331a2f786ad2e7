"""Histories read day by day for some or all symbols equal those of one frame of all bars, bit for bit."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock, day_start_us
from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.engine.feature_history import BarColumns
from surveillance_pipelines.features.inputs import market_context
from surveillance_pipelines.stores import lake_history
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.lake_history import SINGLE_REQUESTS, UNREADABLE_SECONDS, LakeHistory
from surveillance_pipelines.stores.open_table import OpenTable
from surveillance_pipelines_tests.features.bars import market_bars, same_bits, symbol_bars

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")
WANTED = 300


class CountingLake(Lake):
    """Records the columns of each read of an open table."""

    reads: list[list[str]]

    @contextmanager
    def counted(self) -> Iterator[None]:
        object.__setattr__(self, "reads", reads := [])
        yield
        assert self.reads is reads

    def open(self, table: str) -> OpenTable | None:
        lake, opened = self, super().open(table)
        if opened is None:
            return None

        class Counted:
            def read(self, **options) -> pl.DataFrame:
                frame = opened.read(**options)
                lake.reads.append(frame.columns)
                return frame

            def __getattr__(self, name: str):
                return getattr(opened, name)

        return Counted()  # type: ignore[return-value]


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


@pytest.fixture(params=[lake_history.FEW, 0], ids=["days_together", "day_by_day"])
def few(request, monkeypatch) -> None:
    monkeypatch.setattr(lake_history, "FEW", request.param)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("centre", ["mean", "median"])
def test_history_of_some_symbols_equals_that_of_one_frame(lake, bars, centre):
    found = LakeHistory(lake).bars(["EEE", "BBB", "LATE", "RARE", "NONE"], last_day(bars), WANTED, centre)
    assert set(found) == {"EEE", "BBB", "LATE", "RARE"}
    for symbol, columns in found.items():
        assert columns.centre == centre
        assert_same(columns, expected(bars, symbol, centre))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("centre", ["mean", "median"])
def test_history_of_all_symbols_after_several_requests_equals_that_of_one_frame(lake, bars, centre):
    history = LakeHistory(lake)
    day = last_day(bars)
    begin_start(history, day, centre)
    for symbols in (["EEE", "FFF"], ["LATE", "RARE"], ["DDD"], ["AAA", "EEE"]):
        for symbol, columns in history.bars(symbols, day, WANTED, centre).items():
            assert_same(columns, expected(bars, symbol, centre))


def begin_start(history: LakeHistory, day: date, centre: MarketCentre) -> None:
    """Make as many requests as are read one by one."""
    for _ in range(SINGLE_REQUESTS):
        history.bars(["AAA"], day, WANTED, centre)


@pytest.mark.requirement("ING-15")
def test_all_symbols_are_read_once(lake, bars):
    history, day = LakeHistory(lake), last_day(bars)
    begin_start(history, day, "mean")
    assert history.bars(["FFF"], day, WANTED, "mean").keys() == {"FFF"}
    with lake.counted():
        assert history.bars(["EEE"], day, WANTED, "mean").keys() == {"EEE"}
        assert lake.reads == []
        history.forget()
        assert history.bars(["CCC"], day, WANTED, "mean").keys() == {"CCC"}
        assert [columns for columns in lake.reads if "open" in columns] == lake.reads


def test_symbols_without_bars_cost_no_read_and_do_not_count_as_a_start(lake, bars):
    history, day = LakeHistory(lake), last_day(bars)
    history.bars(["EEE", "NONE"], day, WANTED, "mean")
    with lake.counted():
        for _ in range(SINGLE_REQUESTS):
            assert history.bars(["NONE", "NEITHER"], day, WANTED, "mean") == {}
        assert lake.reads == []
        assert history.bars(["FFF"], day, WANTED, "mean").keys() == {"FFF"}
        assert history.bars(["EEE"], day, WANTED, "mean").keys() == {"EEE"}


def test_peers_are_read_once_for_new_symbols_and_again_only_for_changed_days(lake, bars):
    history, day = LakeHistory(lake), last_day(bars)
    history.bars(["EEE", "FFF"], day, WANTED, "median")
    with lake.counted():
        assert_same(history.bars(["FFF"], day, WANTED, "median")["FFF"], expected(bars, "FFF", "median"))
        assert ["symbol", "bar_start", "close", "revision"] not in lake.reads
    today = pl.col("date") == day
    doubled = bars.with_columns(close=pl.when(today).then(pl.col("close") * 2).otherwise("close"))
    lake.write_days("bars_1m", doubled.filter(today), days=[day])
    with lake.counted():
        assert_same(history.bars(["EEE"], day, WANTED, "median")["EEE"], expected(doubled, "EEE", "median"))
        assert lake.reads.count(["symbol", "bar_start", "close", "revision"]) == 2  # that day, and the one before it


@pytest.mark.requirement("ING-15")
def test_changed_table_is_read_again(lake, bars):
    history, day = LakeHistory(lake), last_day(bars)
    before = history.bars(["EEE"], day, WANTED, "mean")["EEE"]
    history.bars(["FFF"], day, WANTED, "mean")
    today = bars.filter(pl.col("date") == day).with_columns(close=pl.col("close") * 2, high=pl.col("high") * 2)
    lake.write_days("bars_1m", today, days=[day])
    after = history.bars(["EEE"], day, WANTED, "mean")["EEE"]
    assert after.values[3, -1] == 2 * before.values[3, -1]


@pytest.mark.parametrize("centre", ["mean", "median"])
def test_first_return_of_a_peer_after_days_without_bars_is_known(tmp_path, centre):
    own, peer = symbol_bars("EEE", 1, 6500, gaps=0.0), symbol_bars("PEER", 2, 6500, gaps=0.0)
    days = own["bar_start"].dt.date().unique().sort().to_list()
    present = pl.col("bar_start").dt.date().is_in([*days[:2], days[-1]])
    bars = pl.concat([own, peer.filter(present)]).with_columns(date=pl.col("bar_start").dt.date())
    lake = Lake(str(tmp_path))
    lake.write_days("bars_1m", bars, days=days)
    found = LakeHistory(lake).bars(["EEE"], days[-1], WANTED, centre)["EEE"]
    assert_same(found, expected(bars, "EEE", centre))
    second_minute = int(np.searchsorted(found.starts, day_start_us(days[-1]))) + 1
    assert found.values[6, [second_minute - 1, second_minute]].tolist() == [0, 1]


def test_table_that_was_created_again_is_read_again(lake, bars):
    history, day = LakeHistory(lake), last_day(bars)
    history.bars(["EEE"], day, WANTED, "median")
    shutil.rmtree(Path(lake.url) / "bars_1m")
    doubled = bars.with_columns(close=pl.col("close") * 2)
    lake.write_days("bars_1m", doubled, days=bars["date"].unique().to_list())
    assert_same(history.bars(["EEE"], day, WANTED, "median")["EEE"], expected(doubled, "EEE", "median"))


def test_lake_without_bars_gives_no_history(tmp_path):
    assert LakeHistory(Lake(str(tmp_path))).bars(["AAA"], date(2024, 3, 5), WANTED, "mean") == {}


@pytest.mark.parametrize("content", [None, '{"commitInfo":'], ids=["gap", "truncated"])
def test_damaged_log_gives_no_history_and_is_reported_once_until_it_is_repaired(lake, bars, content):
    for _ in range(2):  # so that the log has several entries
        lake.write_days("bars_1m", bars.filter(pl.col("date") == last_day(bars)), days=[last_day(bars)])
    log = sorted((Path(lake.url) / "bars_1m" / "_delta_log").glob("*.json"))
    damaged = log[1] if content is None else log[-1]
    saved = damaged.read_bytes()
    reported: list[str] = []
    clock = ManualClock(datetime(2024, 3, 5, tzinfo=UTC))
    history, day = LakeHistory(lake, reported.append, clock), last_day(bars)
    if content is None:
        damaged.unlink()
    else:
        damaged.write_text(content)
    assert history.bars(["EEE"], day, WANTED, "median") == {}
    clock.sleep(UNREADABLE_SECONDS)
    assert history.bars(["FFF"], day, WANTED, "median") == {}
    assert history.status == "unreadable"
    assert len(reported) == 1
    assert "the lake's table bars_1m cannot be read (DeltaError: " in reported[0]
    assert len(reported[0]) < 600
    damaged.write_bytes(saved)
    clock.sleep(UNREADABLE_SECONDS - 1)
    assert history.bars(["EEE"], day, WANTED, "median") == {}, "the table is not read during the pause"
    clock.sleep(1)
    assert_same(history.bars(["EEE"], day, WANTED, "median")["EEE"], expected(bars, "EEE", "median"))


@pytest.mark.parametrize("size", [0, 100])
def test_damaged_file_gives_no_history_to_a_run_and_is_raised_to_others(lake, bars, size):
    day, reported = last_day(bars), []
    newest = max((Path(lake.url) / "bars_1m" / f"date={day}").glob("*.parquet"))
    newest.write_bytes(newest.read_bytes()[:size])
    assert LakeHistory(lake, reported.append).bars(["EEE"], day, WANTED, "median") == {}
    assert len(reported) == 1
    with pytest.raises(lake_history.READ_ERRORS):
        LakeHistory(lake).bars(["EEE"], day, WANTED, "median")


def test_lost_log_gives_no_history_and_is_reported(lake, bars):
    shutil.rmtree(Path(lake.url) / "bars_1m" / "_delta_log")
    reported: list[str] = []
    assert LakeHistory(lake, reported.append).bars(["EEE"], last_day(bars), WANTED, "median") == {}
    assert "LostLogError: expected the log of the lake's table bars_1m in " in reported[0]


def test_store_that_does_not_answer_is_reported_in_plain_text_after_few_attempts():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # not listening
        options = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{closed.getsockname()[1]}", "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ALLOW_HTTP": "true",
        }  # fmt: skip
        reported: list[str] = []
        history = LakeHistory(Lake("s3://bucket/lake", options).quick(), reported.append)
        assert history.bars(["EEE"], date(2024, 3, 5), WANTED, "median") == {}
    assert "retry_timeout 5s" in reported[0]
    assert reported[0].isprintable()
    assert "↳" not in reported[0]


def test_local_lake_needs_no_limits():
    assert Lake("folder").quick() == Lake("folder")


def test_table_that_disappears_during_a_run_is_reported_and_read_when_it_is_back(lake, bars):
    table, reported, clock = Path(lake.url) / "bars_1m", [], ManualClock(datetime(2024, 3, 5, tzinfo=UTC))
    history, day = LakeHistory(lake, reported.append, clock), last_day(bars)
    assert history.bars(["EEE"], day, WANTED, "median")
    table.rename(table.with_name("moved"))
    assert (history.bars(["EEE"], day, WANTED, "median"), history.status) == ({}, "unreadable")
    assert "TableGoneError: expected the lake's table bars_1m, found none where it was before" in reported[0]
    table.with_name("moved").rename(table)
    clock.sleep(UNREADABLE_SECONDS)
    assert history.bars(["EEE"], day, WANTED, "median")
    assert history.status == "read"


def test_clock_that_is_set_back_does_not_lengthen_the_pause(lake, bars):
    damaged = Path(lake.url) / "bars_1m" / "_delta_log"
    damaged.rename(damaged.with_name("saved"))
    clock, day = ManualClock(datetime(2024, 3, 5, tzinfo=UTC)), last_day(bars)
    history = LakeHistory(lake, lambda _: None, clock)
    assert history.bars(["EEE"], day, WANTED, "median") == {}
    damaged.with_name("saved").rename(damaged)
    clock.advance(-3600)
    assert history.bars(["EEE"], day, WANTED, "median")
