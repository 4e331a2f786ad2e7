import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from surveillance_pipelines.evaluation.direction_labels import COST_FLOOR, direction_labels, forward_returns

OPEN = datetime(2024, 3, 4, 14, 30, tzinfo=UTC)


def bars(minutes: list[int], closes: list[float], symbol: str = "AAPL") -> pl.DataFrame:
    starts = [OPEN + timedelta(minutes=minute) for minute in minutes]
    frame = pl.DataFrame(
        {"bar_start": starts, "close": closes}, schema_overrides={"bar_start": pl.Datetime("us", "UTC")}
    )
    return frame.with_columns(symbol=pl.lit(symbol), date=pl.col("bar_start").dt.date())


def test_forward_returns_take_the_close_one_horizon_later():
    got = forward_returns(bars([0, 15, 30], [100.0, 110.0, 99.0])).to_list()
    assert got == [pytest.approx(math.log(1.1)), pytest.approx(math.log(0.9)), None]


def test_forward_returns_take_the_last_close_before_a_missing_bar():
    got = forward_returns(bars([0, 12, 20], [100.0, 105.0, 50.0])).to_list()
    assert got[0] == pytest.approx(math.log(1.05))


def test_forward_returns_without_a_bar_near_the_horizon_are_null():
    assert forward_returns(bars([0, 5, 40], [100.0, 105.0, 50.0])).to_list() == [None, None, None]


def test_forward_returns_never_cross_into_another_day():
    minutes = [565, 575]  # 23:55 and 00:05 UTC
    assert forward_returns(bars(minutes, [100.0, 110.0]), 10).to_list() == [None, None]


def test_forward_returns_keep_order_and_separate_symbols():
    both = pl.concat([bars([15, 0], [110.0, 100.0]), bars([0, 15], [50.0, 25.0], "MSFT")])
    got = forward_returns(both).to_list()
    assert got == [None, pytest.approx(math.log(1.1)), pytest.approx(math.log(0.5)), None]


@pytest.mark.requirement("MOD-06")
def test_direction_labels_are_hold_inside_the_band_and_a_side_outside():
    frame = pl.DataFrame(
        {
            "move": [0.5 * COST_FLOOR, 2 * COST_FLOOR, -2 * COST_FLOOR, 0.01, 0.02, None],
            "volatility": [0.0, 0.0, float("nan"), 0.01, 0.01, 0.01],  # a band of 0.0174 at 1% per bar
        }
    )
    labels = frame.select(direction_labels(pl.col("move"), pl.col("volatility"))).to_series().to_list()
    assert labels == [1, 2, 0, 1, 2, None]
