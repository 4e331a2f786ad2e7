from pathlib import Path

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.market.files.bars import read_bars
from surveillance_pipelines.market.files.options import FileOptions
from surveillance_pipelines.training.anomaly_shapes import KIND_BARS, SHAPES
from surveillance_pipelines.training.injection import LABEL_SCHEMA, PLAN_SCHEMA, Injected, plant
from surveillance_pipelines.training.injection_plan import SPACING_BARS, plan_injections
from surveillance_pipelines_tests.market.markets import market_bars, minute, session_table
from surveillance_pipelines_tests.training.single_injection import inject

AT = ("MSFT", to_us(minute(18, 0)))


def with_changes(bars: pl.DataFrame, injected: Injected) -> pl.DataFrame:
    """Return the injected bars with labels, log returns and their original values."""
    log_return = pl.col("close").log().diff().over("symbol")
    before = bars.select("symbol", "bar_start", r0=log_return, v0=pl.col("volume"), c0=pl.col("close"))
    after = injected.bars.with_columns(r1=log_return)
    joined = after.join(before, on=["symbol", "bar_start"]).sort("symbol", "bar_start")
    return joined.join(injected.labels, on=["symbol", "bar_start"], how="left").sort("symbol", "bar_start")


def assert_sound(bars: pl.DataFrame) -> None:
    body = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    prices = (pl.col("low") > 0) & (pl.col("low") <= body[0]) & (body[1] <= pl.col("high")) & pl.col("high").is_finite()
    assert bars.select((prices & pl.col("volume").is_finite() & (pl.col("volume") >= 0)).all()).item()


def test_every_kind_has_a_shape_and_a_length() -> None:
    assert set(SHAPES) == set(KIND_BARS) == set(ANOMALY_KINDS)


@pytest.mark.requirement("SCH-05")
@pytest.mark.parametrize("kind", ANOMALY_KINDS)
def test_inject_changes_only_the_bars_of_the_anomaly(kind: str) -> None:
    bars = market_bars()
    injected = inject(bars, kind, AT, severity=8.0, seed=4)
    assert_sound(injected.bars)
    assert injected.bars.schema == bars.schema
    assert injected.labels.schema == LABEL_SCHEMA
    fewest, most = KIND_BARS[kind]
    assert fewest <= injected.labels.height <= most
    assert injected.labels["bar_start"][0] == minute(18, 0)
    assert injected.labels["anomaly_id"].unique().to_list() == [f"MSFT-20240306T1800-{kind}"]

    changed = with_changes(bars, injected)
    others = changed.filter(pl.col("symbol") != "MSFT")
    assert others["close"].equals(others["c0"])
    outside = changed.filter((pl.col("symbol") == "MSFT") & pl.col("kind").is_null())
    assert outside["volume"].equals(outside["v0"])
    # All later bars are shifted to the price level, except after marking the close.
    moved = outside.filter((pl.col("r1") - pl.col("r0")).abs() > 1e-12)
    assert moved.height == (1 if kind == "marking_the_close" else 0)


@pytest.mark.parametrize("kind", ANOMALY_KINDS)
def test_inject_with_twice_the_severity_deviates_more(kind: str) -> None:
    departures = []
    for severity in (4.0, 12.0):
        changed = with_changes(market_bars(), inject(market_bars(), kind, AT, severity, seed=4))
        inside = changed.filter(pl.col("kind").is_not_null())
        price = (inside["close"] / inside["c0"]).log().abs().max()
        volume = (inside["volume"] / inside["v0"]).max()
        departures.append(volume if kind == "volume_spike" else price)
    assert departures[1] > 2.0 * departures[0]


def test_inject_severity_is_comparable_across_volatilities() -> None:
    bars = market_bars()
    wild = bars.with_columns(
        pl.when(pl.col("symbol") == "MSFT").then(100 * (pl.col(name) / 100) ** 5).otherwise(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close")
    )
    moves = []
    for frame in (bars, wild):
        changed = with_changes(frame, inject(frame, "price_gap", AT, 8.0, seed=4)).filter(pl.col("kind").is_not_null())
        moves.append(float(np.abs(changed["r1"] - changed["r0"])[0]))
    assert moves[1] == pytest.approx(5 * moves[0])  # five times the volatility, five times the gap


def test_cross_symbol_divergence_moves_against_the_peers() -> None:
    bars = market_bars()
    changed = with_changes(bars, inject(bars, "cross_symbol_divergence", AT, 8.0, seed=4))
    inside = changed.filter(pl.col("kind").is_not_null())
    peers = bars.with_columns(r=pl.col("close").log().diff().over("symbol")).filter(pl.col("symbol") != "MSFT")
    theirs = peers.filter(pl.col("bar_start").is_in(inside["bar_start"].implode()))["r"].sum()
    assert float(inside["r1"].sum()) * float(theirs) < 0


def test_cross_symbol_divergence_without_peers_raises() -> None:
    alone = market_bars().filter(pl.col("symbol") == "MSFT")
    with pytest.raises(ValueError, match="expected other symbols"):
        inject(alone, "cross_symbol_divergence", AT, 8.0, seed=4)


def test_pump_and_dump_has_the_highest_volume_and_price() -> None:
    inside = with_changes(market_bars(), inject(market_bars(), "pump_and_dump", AT, 8.0, seed=4)).filter(
        pl.col("kind").is_not_null()
    )
    lift = (inside["close"] / inside["c0"]).log().to_list()
    top = lift.index(max(lift))
    assert len(lift) / 2 <= top < len(lift) - 1
    assert lift[-1] < 0.2 * lift[top]


@pytest.fixture(scope="module")
def plan() -> pl.DataFrame:
    return plan_injections(market_bars(), per_symbol_day=2, seed=6, sessions=session_table())


def test_plan_injections_are_balanced_and_apart(plan: pl.DataFrame) -> None:
    assert plan.schema == PLAN_SCHEMA
    counts = plan["kind"].value_counts()["count"]
    assert len(counts) == len(ANOMALY_KINDS)
    assert np.ptp(counts.to_numpy()) <= 2
    for symbol, rows in plan.group_by("symbol"):
        starts = market_bars().filter(pl.col("symbol") == symbol[0])["bar_start"].to_list()
        first = np.array([starts.index(start) for start in rows.sort("bar_start")["bar_start"]])
        last = first + rows.sort("bar_start")["bars"].to_numpy()
        assert (first[1:] - last[:-1]).min() >= SPACING_BARS


def test_plan_injections_only_marking_the_close_ends_with_the_session(plan: pl.DataFrame) -> None:
    ends = plan["bar_start"].dt.timestamp("us").to_numpy() + plan["bars"].to_numpy() * 60_000_000
    _, minutes, length = session_table().positions(ends - 1)
    at_close = np.isclose(minutes, length, atol=1e-6)
    assert (at_close == (plan["kind"] == "marking_the_close").to_numpy()).all()


def test_plan_injections_skip_extended_hours_and_sessions_without_volume() -> None:
    early = market_bars().with_columns(pl.col("bar_start") - pl.duration(hours=3))
    outside = plan_injections(early, per_symbol_day=1, seed=1, sessions=session_table())
    _, minutes, _ = session_table().positions(outside["bar_start"].dt.timestamp("us").to_numpy())
    assert outside.height > 0
    assert minutes.min() >= 0
    silent = market_bars().with_columns(volume=pl.lit(0.0))
    assert plan_injections(silent, per_symbol_day=1, seed=1, sessions=session_table()).is_empty()


def test_plan_injections_for_a_single_symbol_have_no_divergence() -> None:
    alone = market_bars().filter(pl.col("symbol") == "MSFT")
    assert "cross_symbol_divergence" not in plan_injections(alone, per_symbol_day=3, seed=1)["kind"]


def test_plan_injections_unknown_kind_raises() -> None:
    with pytest.raises(ValueError, match="spoofing"):
        plan_injections(market_bars(), per_symbol_day=1, seed=1, kinds=["spoofing"])


def test_plant_is_seeded_and_anomalies_are_independent(plan: pl.DataFrame) -> None:
    whole = plant(market_bars(), plan, seed=9)
    assert_sound(whole.bars)
    assert whole.bars.equals(plant(market_bars(), plan, seed=9).bars)
    assert not whole.bars.equals(plant(market_bars(), plan, seed=10).bars)
    one = plan.filter(pl.col("symbol") == "SPY").sort("bar_start").head(1)
    alone = plant(market_bars(), one, seed=9)
    keys = alone.labels.select("symbol", "bar_start")
    first = [frame.bars.join(keys, on=["symbol", "bar_start"], how="semi")["close"] for frame in (whole, alone)]
    assert first[0].equals(first[1])


def test_plant_trades_follow_the_volume() -> None:
    changed = inject(market_bars(), "volume_spike", AT, 10.0, seed=4)
    inside = changed.bars.join(changed.labels, on=["symbol", "bar_start"])
    before = market_bars().join(changed.labels, on=["symbol", "bar_start"])
    assert (inside["trades"] > before["trades"]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bar_start": minute(14, 31)}, "to measure the local scale"),
        ({"bar_start": minute(22, 0)}, "expected a bar where"),
        ({"symbol": "TSLA"}, "expected bars of TSLA"),
        ({"bars": 10_000}, "expected 10000 bars"),
    ],
)
def test_plant_anomaly_that_does_not_fit_raises(change: dict[str, object], message: str) -> None:
    row = {
        "anomaly_id": "x",
        "symbol": "MSFT",
        "bar_start": minute(18, 0),
        "kind": "ramping",
        "severity": 8.0,
        "bars": 20,
    }
    with pytest.raises(ValueError, match=message):
        plant(market_bars(), pl.DataFrame([row | change], schema=PLAN_SCHEMA), seed=1)


def test_plant_overlapping_anomalies_raise() -> None:
    rows = [(f"{start}", "MSFT", start, "ramping", 8.0, 20) for start in (minute(18, 0), minute(18, 10))]
    with pytest.raises(ValueError, match="do not overlap"):
        plant(market_bars(), pl.DataFrame(rows, schema=PLAN_SCHEMA, orient="row"), seed=1)


def test_plant_repeated_bars_raise(plan: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="expected one row per symbol"):
        plant(pl.concat([market_bars(), market_bars()]), plan, seed=1)


@pytest.mark.shared_data
def test_plant_keeps_real_bars_consistent_for_every_kind(shared_data: Path) -> None:
    bars = read_bars(shared_data / "equity_minute" / "yahoo_1m_2019_2022.parquet", FileOptions()).frame
    days = bars.filter(pl.col("date").is_between(pl.date(2022, 3, 15), pl.date(2022, 3, 31)))
    regular = days.filter(pl.col("bar_start").dt.time().is_between(pl.time(13, 30), pl.time(19, 59)))
    plan = plan_injections(regular, per_symbol_day=1, seed=2)
    assert set(plan["kind"]) == set(ANOMALY_KINDS)
    assert "^VIX" not in set(plan["symbol"])  # an index: its bars have no volume
    assert_sound(plant(regular, plan, seed=2).bars)
