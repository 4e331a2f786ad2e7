"""One way into the lake for every source: the newest landing wins, and each landing is kept once."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.market import yahoo
from surveillance_pipelines.market.bar_frames import complete_bars, empty_bars
from surveillance_pipelines.market.client import FetchResult, SymbolOutcome
from surveillance_pipelines.market.files.options import FileOptions
from surveillance_pipelines.market.source_resolution import resolve_bars
from surveillance_pipelines.services import ingestion, simulation
from surveillance_pipelines.services.endpoints import child_environment
from surveillance_pipelines.services.ingestion import (
    Ingestion,
    ReceivedBars,
    ingest_file,
    ingest_simulated,
    ingest_yahoo,
    land,
)
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines_tests.market.markets import market_bars

START = datetime(2024, 3, 6, 14, 30, tzinfo=UTC)
DAY = START.date()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2024, 3, 7, tzinfo=UTC))


@pytest.fixture
def platform(settings: Settings, clock: ManualClock) -> Platform:
    return Platform(settings, clock)


def bars_of(close: float, source: Any, known_at: int | None = None) -> pl.DataFrame:
    row = {
        "symbol": "AAPL",
        "bar_start": START,
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": close,
        "volume": 100.0,
    }
    return complete_bars(
        pl.DataFrame([row]), source=source, adjustment="none", timeframe="1m", batch_id="x", knowledge_time=known_at
    )  # pyright: ignore[reportArgumentType]


class Source:
    """One bar of one source, with the close that is asked for."""

    def __init__(self, name: str, platform: Platform, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self._platform, self._folder, self._patch = name, platform, folder, monkeypatch

    def ingest(self, close: float) -> Ingestion:
        return getattr(self, f"_{self.name}")(close)

    def _file(self, close: float) -> Ingestion:
        path = self._folder / f"{close}.csv"
        path.write_text(f"symbol,ts,open,high,low,close,volume\nAAPL,{START.isoformat()},10,12,9,{close},1\n")
        return ingest_file(self._platform, path, FileOptions())

    def _yfinance(self, close: float) -> Ingestion:
        frame = bars_of(close, "yfinance", self._platform.clock.now_us())

        def fetch(*_: Any, **__: Any) -> FetchResult:
            return FetchResult(frame, {"AAPL": SymbolOutcome("ok", "", 1)}, (), 0, 0, 1, "a-fetch")

        self._patch.setattr(yahoo, "fetch_bars", fetch)
        return ingest_yahoo(self._platform, ["AAPL"], DAY, DAY)

    def _simulated(self, close: float) -> Ingestion:
        # The simulator's bars are known at their end, whichever seed made them.
        self._patch.setattr(simulation, "simulated_bars", lambda *_: bars_of(close, "simulated"))
        return ingest_simulated(self._platform, ["AAPL"], sessions=1, last=DAY, seed=7)


@pytest.fixture(params=["file", "yfinance", "simulated"])
def source(
    request: pytest.FixtureRequest, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Source:
    return Source(request.param, platform, tmp_path, monkeypatch)


def landed(platform: Platform) -> pl.DataFrame:
    return platform.lake.read("bars_landed", schema=BAR_SCHEMA).sort("knowledge_time")


def test_correction_of_a_correction_lands_and_a_repeat_of_the_newest_does_not(
    source: Source, platform: Platform, clock: ManualClock
) -> None:
    counts = []
    for close in (10.0, 11.0, 10.0, 10.0, 11.0, 11.0):
        done = source.ingest(close)
        counts.append((done.landed.height, done.duplicates))
        clock.advance(60.0)
    assert counts == [(1, 0), (1, 0), (1, 0), (0, 1), (1, 0), (0, 1)]
    kept = landed(platform)
    assert kept["close"].to_list() == [10.0, 11.0, 10.0, 11.0]
    assert kept["batch_id"].n_unique() == 4
    assert kept["knowledge_time"].is_sorted()
    resolved = resolve_bars(kept, empty_bars())
    assert resolved.bars["close"].to_list() == [10.0, 11.0, 10.0, 11.0]
    assert resolved.bars["revision"].to_list() == [0, 1, 2, 3]
    with platform.connect() as connection:
        runs = connection.execute("SELECT rows_in, rows_landed, rows_duplicate FROM surveillance.ingestion_runs")
        assert sorted(runs.fetchall()) == [(1, 0, 1)] * 2 + [(1, 1, 0)] * 4


def test_corrections_keep_their_order_on_a_clock_that_stands_still(source: Source, platform: Platform) -> None:
    for close in (10.0, 11.0, 10.0):
        assert source.ingest(close).landed.height == 1
    assert landed(platform)["close"].to_list() == [10.0, 11.0, 10.0]
    assert landed(platform)["knowledge_time"].n_unique() == 3


def test_first_landing_keeps_the_knowledge_time_of_its_source(platform: Platform) -> None:
    land(platform, ReceivedBars("simulated", bars_of(10.0, "simulated"), rows_in=1), detail={})
    assert landed(platform)["knowledge_time"].to_list() == [datetime(2024, 3, 6, 14, 31, tzinfo=UTC)]


def test_sources_do_not_correct_each_other(platform: Platform) -> None:
    for name in ("file", "simulated", "file"):
        land(platform, ReceivedBars(name, bars_of(10.0, name), rows_in=1), detail={})
    assert sorted(landed(platform)["source"]) == ["file", "simulated"]


@pytest.mark.parametrize("landed_before", [0, 1])
def test_bars_that_another_process_lands_between_comparison_and_commit_are_duplicates(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, landed_before: int
) -> None:
    bars = market_bars().head(20)
    compare, others = ingestion.changed_bars, [bars.slice(landed_before, 10)]
    if landed_before:
        land(platform, ReceivedBars("file", bars.head(landed_before), rows_in=landed_before), detail={})

    def compare_and_lose_the_race(*arguments: Any) -> pl.DataFrame:
        found = compare(*arguments)
        if others:
            assert land(platform, ReceivedBars("file", others.pop(), rows_in=10), detail={}).landed.height == 10
        return found

    monkeypatch.setattr(ingestion, "changed_bars", compare_and_lose_the_race)
    done = land(platform, ReceivedBars("file", bars, rows_in=bars.height), detail={})
    assert (done.landed.height, done.duplicates) == (10 - landed_before, 10 + landed_before)
    assert landed(platform).height == landed(platform).unique(["symbol", "bar_start"]).height == 20


_INGESTER = """
import sys
from pathlib import Path
from surveillance_pipelines.market.files.options import FileOptions
from surveillance_pipelines.services.ingestion import ingest_file
from surveillance_pipelines.services.platform import open_platform
import surveillance_pipelines.market.files.bars
platform, path = open_platform(), Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
done = ingest_file(platform, path, FileOptions())
print(done.landed.height, done.duplicates)
"""


def test_overlapping_ingests_of_processes_store_each_bar_once(platform: Platform, tmp_path: Path) -> None:
    bars = market_bars().select("symbol", "bar_start", "open", "high", "low", "close", "volume")
    whole, half = tmp_path / "whole.parquet", tmp_path / "half.parquet"
    bars.write_parquet(whole)
    bars.head(bars.height // 2).write_parquet(half)
    environment = {**os.environ, **child_environment(platform.endpoints)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _INGESTER, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        for path in (whole, half, whole, whole)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    counts = [tuple(map(int, process.communicate()[0].split())) for process in _released(processes)]
    assert [process.returncode for process in processes] == [0] * 4
    assert sum(count for count, _ in counts) == bars.height == landed(platform).height
    assert landed(platform).unique(["symbol", "bar_start"]).height == bars.height
    assert [sum(pair) for pair in counts] == [bars.height, bars.height // 2, bars.height, bars.height]


def _released(processes: Sequence[subprocess.Popen[str]]) -> Sequence[subprocess.Popen[str]]:
    """Let all processes continue at the same time."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return processes


def test_answer_without_bars_is_recorded_and_registers_nothing(platform: Platform) -> None:
    done = land(platform, ReceivedBars("yfinance", empty_bars()), detail={"fallback": True})
    assert (done.landed.height, done.days, done.received.mostly_refused) == (0, None, True)
    with platform.connect() as connection:
        assert connection.execute("SELECT count(*) FROM surveillance.instruments").fetchone() == (0,)
        assert connection.execute("SELECT detail ->> 'fallback' FROM surveillance.ingestion_runs").fetchall() == [
            ("true",)
        ]
