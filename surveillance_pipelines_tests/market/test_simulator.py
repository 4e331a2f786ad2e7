import dataclasses
import time
from datetime import date

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.contracts.frames import BAR_SCHEMA
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.market.simulator import MarketConfig, SimulatedSymbol, default_market, simulate
from surveillance_pipelines_tests.market.markets import SYMBOLS, market_bars, session_table, sessions

PARTS = (slice(0, 30), slice(165, 225), slice(360, 390))
FIRST_MINUTE = pl.col("minute") == 0


@pytest.mark.requirement("ING-10")
def test_simulate_is_determined_by_the_seed() -> None:
    assert simulate(default_market(SYMBOLS, seed=11), sessions()).equals(market_bars())
    assert not simulate(default_market(SYMBOLS, seed=12), sessions())["close"].equals(market_bars()["close"])


def test_simulate_symbol_is_independent_of_other_symbols() -> None:
    alone = simulate(default_market(("MSFT",), seed=11), sessions())
    together = market_bars().filter(pl.col("symbol") == "MSFT")
    assert alone.drop("batch_id").equals(together.drop("batch_id"))


def test_simulate_bars_cover_exactly_the_sessions_and_are_consistent() -> None:
    bars = market_bars()
    assert bars.schema == BAR_SCHEMA
    assert set(bars["source"]) == {"simulated"}
    assert bars.height == len(SYMBOLS) * sessions().height * 390
    _, minute, _ = session_table().positions(bars["bar_start"].dt.timestamp("us").to_numpy())
    assert (minute.min(), minute.max()) == (0.0, 389.0)
    body = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    sound = (pl.col("low") <= body[0]) & (body[1] <= pl.col("high")) & (pl.col("low") > 0) & (pl.col("volume") >= 0)
    assert bars.select(sound.all()).item()


@pytest.fixture(scope="module")
def month() -> pl.DataFrame:
    """A month of three liquid symbols and a thinly traded one."""
    liquid = [SimulatedSymbol(symbol=name, beta=1.2) for name in ("A", "B", "C")]
    thin = SimulatedSymbol(symbol="THIN", daily_volume=2e4, no_trade_probability=0.4)
    config = MarketConfig(symbols=(*liquid, thin), seed=3)
    bars = simulate(config, build_sessions("XNYS", date(2024, 1, 2), date(2024, 2, 13)))
    log_return = pl.col("close").log().diff().over("symbol", "date")
    return bars.with_columns(r=log_return, minute=pl.int_range(pl.len()).over("symbol", "date"))


def test_simulate_volume_is_u_shaped(month: pl.DataFrame) -> None:
    volume = (
        month.filter(pl.col("symbol") == "A").group_by("minute").agg(pl.col("volume").mean()).sort("minute")["volume"]
    )
    first, middle, last = (float(volume[part].to_numpy().mean()) for part in PARTS)
    assert first > 1.5 * middle < last


def test_simulate_volatility_is_clustered_and_tails_are_fat(month: pl.DataFrame) -> None:
    # Midday only: the U shape alone would make absolute returns persistent.
    returns = (
        month.filter((pl.col("symbol") == "A") & pl.col("minute").is_between(90, 300))["r"].drop_nulls().to_numpy()
    )
    size = np.abs(returns)
    assert np.corrcoef(size[:-10], size[10:])[0, 1] > 0.03
    assert np.mean((returns / returns.std()) ** 4) > 4.0


def test_simulate_symbols_share_a_factor(month: pl.DataFrame) -> None:
    wide = (
        month.filter(pl.col("symbol").is_in(["A", "B"])).pivot(on="symbol", index="bar_start", values="r").drop_nulls()
    )
    assert 0.2 < np.corrcoef(wide["A"].to_numpy(), wide["B"].to_numpy())[0, 1] < 0.8


def test_simulate_minute_without_a_trade_repeats_the_last_close(month: pl.DataFrame) -> None:
    quiet = month.filter((pl.col("symbol") == "THIN") & (pl.col("volume") == 0))
    assert 0.2 < quiet.height / (month.height / 4) < 0.5
    assert quiet.select((pl.col("high") == pl.col("low")).all() & (pl.col("trades") == 0).all()).item()
    assert quiet.filter(pl.col("minute") > 0)["r"].abs().max() == 0.0
    assert month.filter((pl.col("symbol") == "A") & (pl.col("volume") == 0)).is_empty()


def test_simulate_has_overnight_gaps(month: pl.DataFrame) -> None:
    opening = month.filter(pl.col("symbol") == "A").select(
        gap=(pl.col("open").log() - pl.col("close").log().shift(1)).abs(), minute=pl.col("minute")
    )
    night, day = (opening.filter(part)["gap"].drop_nulls().to_numpy() for part in (FIRST_MINUTE, ~FIRST_MINUTE))
    assert np.median(night) > 10 * np.median(day)


def test_simulate_ten_symbols_and_thirty_days_take_less_than_two_seconds() -> None:
    month = build_sessions("XNYS", date(2024, 1, 2), date(2024, 2, 13))
    config = default_market([f"S{number}" for number in range(10)], seed=1)
    began = time.process_time()
    assert simulate(config, month).height == 10 * 30 * 390
    assert time.process_time() - began < 2.0


def test_simulate_calendar_without_sessions_raises() -> None:
    config = default_market(("BTC-USD",), seed=1, calendar="24/7")
    with pytest.raises(ValueError, match="expected sessions of calendar 24/7"):
        simulate(config, sessions())


@pytest.mark.parametrize("change", [{"garch_alpha": 0.2}, {"symbols": ()}], ids=["variance without mean", "nobody"])
def test_market_config_with_invalid_values_raises(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        dataclasses.replace(default_market(SYMBOLS, seed=1), **change)  # type: ignore[arg-type]
