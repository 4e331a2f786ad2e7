import threading
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.batch import (
    BATCH_KERNELS,
    feature_schema,
    features_of_day,
    features_of_days,
    latest_features,
    with_history,
)
from surveillance_pipelines.features.inputs import kernel_inputs
from surveillance_pipelines.features.market import MarketContext
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.features.views import CORE_V1, HISTORY_BARS
from surveillance_pipelines.market.bar_frames import complete_bars
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines_tests.features.bars import always_open, market_bars, same_bits, symbol_bars

SESSIONS = always_open()


def days_of(bars: pl.DataFrame) -> list[date]:
    return sorted(bars["date"].unique().to_list())


def test_range_of_days_equals_its_single_days() -> None:
    bars = market_bars(seed=31, count=900)
    days = days_of(bars)
    assert len(days) > 5
    together = features_of_days(bars, days, SESSIONS)
    apart = [
        features_of_day(bars.filter(pl.col("date") < day), bars.filter(pl.col("date") == day), SESSIONS) for day in days
    ]
    assert pl.concat(apart).sort("symbol", "bar_start").equals(together)
    assert together.select("symbol", "bar_start").equals(bars.select("symbol", "bar_start"))


@pytest.mark.parametrize("threads", [1, 5])
def test_symbols_computed_in_several_threads_are_bit_identical(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    bars, used, counted = market_bars(seed=36, count=700), set(), []
    monkeypatch.setattr(pl, "thread_pool_size", lambda: threads)
    compute = BATCH_KERNELS[CORE_V1.name]

    def noting(*args: Any, **kwargs: Any) -> None:
        used.add(threading.get_ident())
        together.wait(10)
        compute(*args, **kwargs)

    symbols = bars["symbol"].n_unique()
    together = threading.Barrier(min(threads, symbols))
    monkeypatch.setitem(BATCH_KERNELS, CORE_V1.name, noting)
    days = days_of(bars)
    found = features_of_days(bars, days, SESSIONS, advanced=counted.append)
    assert len(used) == min(threads, symbols)
    assert sum(counted) == found.height
    monkeypatch.undo()
    apart = [features_of_days(bars, days, SESSIONS, symbols=[name]) for name in sorted(bars["symbol"].unique())]
    assert pl.concat(apart).equals(found)


def test_day_needs_no_more_than_512_bars_of_each_symbol() -> None:
    bars = market_bars(seed=32, count=1800)
    day = days_of(bars)[-2]
    before, today = bars.filter(pl.col("date") < day), bars.filter(pl.col("date") == day)
    # The context of a bar also needs its peers' bars, so the served context is kept.
    recent = before.group_by("symbol").tail(HISTORY_BARS + 40)
    assert recent.height < before.height
    whole, short = (features_of_day(history, today, SESSIONS) for history in (before, recent))
    assert short.equals(whole)


def test_result_has_the_schema_of_the_table() -> None:
    bars = market_bars(seed=33, count=50)
    features = features_of_days(bars, days_of(bars), SESSIONS)
    assert features.schema == feature_schema()
    assert features_of_days(bars, [], SESSIONS).equals(feature_schema().to_frame())
    assert features_of_days(bars, [date(2030, 1, 1)], SESSIONS).equals(feature_schema().to_frame())
    assert features_of_days(bars.clear(), days_of(bars), SESSIONS).equals(feature_schema().to_frame())


def test_revised_bars_change_no_feature() -> None:
    bars = market_bars(seed=34, count=200)
    revised = bars.with_columns(revision=pl.lit(2, pl.Int32), close=pl.col("close") * 2, high=pl.col("high") * 3)
    expected = features_of_days(bars, days_of(bars), SESSIONS)
    assert features_of_days(pl.concat([revised, bars]), days_of(bars), SESSIONS).equals(expected)


def test_features_of_day_with_two_days_is_refused() -> None:
    bars = symbol_bars("AAA", 1, 600)
    with pytest.raises(ValueError, match="one UTC day"):
        features_of_day(bars.clear(), bars, SESSIONS)


@pytest.mark.requirement("FE-03")
def test_lookback_returns_the_newest_bars_of_each_symbol() -> None:
    bars = market_bars(seed=35, count=700)
    everything = features_of_days(bars, days_of(bars), SESSIONS)
    for lookback in (1, 30, 400):
        latest = latest_features(bars, SESSIONS, lookback)
        assert latest.equals(everything.group_by("symbol", maintain_order=True).tail(lookback))
        assert latest.height == 3 * lookback
    with pytest.raises(ValueError, match="at least 1 bar"):
        latest_features(bars, SESSIONS, 0)


def test_history_reaches_back_until_512_bars() -> None:
    bars = symbol_bars("AAA", 36, 900, gaps=0.5)
    last = days_of(bars)[-1]
    reads = []

    def read(first: date, until: date) -> pl.DataFrame:
        reads.append(first)
        return bars.filter(pl.col("date").is_between(first, until))

    found = with_history(read, last, last)
    assert found.filter(pl.col("date") < last).height >= HISTORY_BARS
    assert reads == [last - timedelta(days=reach) for reach in (10, 40, 160)[: len(reads)]]
    assert len(reads) > 1


def test_history_of_a_new_symbol_is_all_of_its_bars() -> None:
    bars = symbol_bars("AAA", 37, 100)
    last = days_of(bars)[-1]
    assert with_history(lambda a, b: bars.filter(pl.col("date").is_between(a, b)), last, last).equals(bars)


def recorded_bars(shared_data: Path) -> pl.DataFrame:
    raw = pl.read_parquet(shared_data / "equity_minute" / "yahoo_1m_2019_2022.parquet").rename({"ts": "bar_start"})
    frame = raw.with_columns(pl.col("bar_start").cast(UTC_MICROSECONDS), pl.col("volume").cast(pl.Float64))
    return complete_bars(frame, source="file", adjustment="split", timeframe="1m", batch_id="test")


@pytest.fixture(scope="module")
def market(shared_data: Path) -> tuple[pl.DataFrame, SessionTable]:
    bars = recorded_bars(shared_data)
    return bars, SessionTable.from_frame(build_sessions("XNYS", date(2019, 12, 1), date(2022, 4, 30)))


def live_features(bars: pl.DataFrame, sessions: SessionTable, batches: int, seed: int) -> pl.DataFrame:
    """Serve bars in chronological order, restarting from snapshots after every micro-batch."""
    ordered = bars.sort("bar_start", "symbol")
    inputs = kernel_inputs(ordered, sessions)
    starts, symbols = ordered["bar_start"].dt.timestamp("us").to_list(), ordered["symbol"].to_list()
    borders = set(np.random.default_rng(seed).integers(0, len(ordered), batches).tolist())
    context, states, out = MarketContext(), {}, np.empty((len(ordered), len(CORE_V1.columns)))
    for i, (symbol, start) in enumerate(zip(symbols, starts, strict=True)):
        if i in borders:
            states = {name: FeatureState.restore(state.snapshot()) for name, state in states.items()}
            context = MarketContext()
            for name, state in states.items():
                context.seed(name, state.recent_returns())
        state = states.setdefault(symbol, FeatureState())
        inputs[i, [kernel.PEERS_RETURN, kernel.PEERS]] = context.value(symbol, start)
        out[i] = state.advance(start, inputs[i])
        context.update(symbol, start, state.last_log_return)
    return ordered.select("symbol", "bar_start").hstack(pl.from_numpy(out, schema=list(CORE_V1.columns)))


@pytest.mark.shared_data
@pytest.mark.requirement("FE-01", "FE-08", "BEY-01")
def test_live_on_recorded_bars_equals_batch_bit_for_bit(market: tuple[pl.DataFrame, SessionTable]) -> None:
    bars, sessions = market
    chosen = bars.filter(pl.col("date") >= date(2022, 3, 14))
    assert chosen.height > 60_000
    live = live_features(chosen, sessions, batches=60, seed=1).sort("symbol", "bar_start")
    batch = features_of_days(chosen, days_of(chosen), sessions)
    assert same_bits(live.select(CORE_V1.columns).to_numpy(), batch.select(CORE_V1.columns).to_numpy())


@pytest.mark.shared_data
def test_features_of_recorded_bars_are_finite_or_missing(market: tuple[pl.DataFrame, SessionTable]) -> None:
    bars, sessions = market
    features = features_of_days(bars, days_of(bars), sessions).select(CORE_V1.columns)
    assert features.height == bars.height
    assert features.select(pl.any_horizontal(pl.all().is_infinite()).any()).item() is False
    missing = features.select(pl.all().is_nan().mean()).row(0, named=True)
    assert 0.35 < missing["volume_z"] < 0.42
    assert max(missing[name] for name in ("return_z", "rsi_14", "peer_correlation", "round_trip_30")) < 0.02


@pytest.mark.shared_data
def test_gamestop_has_extreme_features_on_the_day_after_its_results(market: tuple[pl.DataFrame, SessionTable]) -> None:
    bars, sessions = market
    gme = features_of_days(bars, [date(2022, 3, 22)], sessions).filter(pl.col("symbol") == "GME")
    assert gme["round_trip_30"].max() > 1.0  # type: ignore[operator]
    assert gme["volume_z"].fill_nan(None).max() > 2.0  # type: ignore[operator]
