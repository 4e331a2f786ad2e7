from datetime import date

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.clock import DAY_US, day_start_us
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.inputs import kernel_inputs, market_context
from surveillance_pipelines_tests.features.bars import FIRST_DAY, always_open, market_bars, symbol_bars

HOUR_US = 3600 * 1_000_000


def test_recorded_context_is_kept_and_the_rest_is_derived() -> None:
    bars = market_bars(seed=21, count=100)
    derived = market_context(bars)
    chosen = pl.int_range(pl.len()) % 3 == 0
    recorded = bars.sort("symbol", "bar_start").with_columns(
        market_peers=pl.when(chosen).then(7).cast(pl.Int32), market_return=pl.when(chosen).then(0.125)
    )
    filled = market_context(recorded)
    assert filled.filter(chosen)["market_return"].to_list() == [0.125] * filled.filter(chosen).height
    assert filled.filter(chosen)["market_peers"].unique().to_list() == [7]
    assert filled.filter(~chosen).equals(derived.filter(~chosen))


def test_recorded_absence_of_peers_stays_absent() -> None:
    bars = market_bars(seed=22, count=50).with_columns(market_peers=pl.lit(0, pl.Int32))
    assert market_context(bars)["market_return"].is_nan().all()


def test_revisions_are_left_out_of_the_context() -> None:
    bars = market_bars(seed=23, count=50)
    revised = bars.with_columns(revision=pl.lit(1, pl.Int32), close=pl.col("close") * 3)
    assert market_context(pl.concat([bars, revised])).equals(market_context(bars))


def test_repeated_bar_is_refused() -> None:
    bars = symbol_bars("AAA", 1, 10)
    with pytest.raises(ValueError, match="2 repeated, first AAA"):
        market_context(pl.concat([bars, bars[:1]]))


def test_mixed_timeframes_are_refused() -> None:
    bars = symbol_bars("AAA", 1, 10)
    with pytest.raises(ValueError, match="one timeframe"):
        market_context(pl.concat([bars, symbol_bars("BBB", 1, 10).with_columns(timeframe=pl.lit("5m"))]))


def test_market_columns_are_added_if_absent() -> None:
    bars = market_bars(seed=24, count=20)
    assert market_context(bars.drop("market_return", "market_peers")).select(bars.columns).equals(market_context(bars))


@pytest.mark.parametrize(
    ("column", "value"), [("close", 0.0), ("open", float("nan")), ("low", None), ("high", np.inf), ("volume", -1.0)]
)
def test_invalid_bar_raises(column: str, value: float | None) -> None:
    bars = market_context(symbol_bars("AAA", 1, 10))
    broken = bars.with_columns(pl.when(pl.int_range(pl.len()) == 4).then(value).otherwise(pl.col(column)).alias(column))
    with pytest.raises(ValueError, match="1 bars differ, first AAA"):
        kernel_inputs(broken, always_open())


def test_unreported_volume_counts_as_zero() -> None:
    bars = market_context(symbol_bars("AAA", 1, 3)).with_columns(volume=pl.Series([None, float("nan"), 5.0]))
    assert kernel_inputs(bars, always_open())[:, kernel.VOLUME].tolist() == [0.0, 0.0, 5.0]


def test_each_symbol_uses_its_own_calendar() -> None:
    midnight = day_start_us(FIRST_DAY)
    noon_rows = [("NOON", date.fromordinal(FIRST_DAY.toordinal() + i), midnight + i * DAY_US + 12 * HOUR_US,
                  midnight + i * DAY_US + 18 * HOUR_US) for i in range(5)]  # fmt: skip
    full_rows = [("24/7", day, start - 12 * HOUR_US, start + 12 * HOUR_US) for _, day, start, _ in noon_rows]
    sessions = SessionTable.from_frame(
        session_rows([*noon_rows, *full_rows]), calendar="24/7", calendar_of={"BBB": "NOON"}
    )
    bars = market_context(market_bars(seed=25, count=60, symbols=("AAA", "BBB")))
    rows = kernel_inputs(bars, sessions)
    for i, (symbol, start) in enumerate(zip(bars["symbol"], bars["bar_start"].dt.timestamp("us"), strict=True)):
        position = sessions.for_symbol(symbol).position(start)
        assert tuple(rows[i, [kernel.SESSION_ID, kernel.MINUTE, kernel.SESSION_MINUTES]]) == position
    assert set(rows[:, kernel.SESSION_MINUTES]) == {360.0, 1440.0}


def test_no_bars_return_no_rows() -> None:
    assert kernel_inputs(market_context(symbol_bars("AAA", 1, 1).clear()), always_open()).shape == (0, 10)
