"""Labelled feature rows of copies of bars with planted anomalies."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.features.views import CORE_V1, FeatureView
from surveillance_pipelines.training.injection import plant
from surveillance_pipelines.training.injection_plan import plan_injections

ECHO_BARS: Final = 60
"""Bars after a planted anomaly whose windows contain it: neither ordinary nor anomalous, so they have no label."""

SEED_STRIDE: Final = 1_000
"""Distance between the seeds of two training sets, so that their copies never share a seed."""

OFF_HOURS_KINDS: Final = (
    "price_gap", "volatility_burst", "ramping", "pump_and_dump", "momentum_ignition", "cross_symbol_divergence",
)  # fmt: skip
"""Kinds that affect prices only, because some sources report no volume before the opening and after the close."""

OFF_HOURS_SHARE: Final = 0.05
"""Share of bars outside sessions from which anomalies are also planted there. Otherwise the classifier would learn that
anomalies never occur outside sessions."""


def plan_copies(
    bars: pl.DataFrame, sessions: SessionTable, *, copies: int, per_symbol_day: float, seed: int
) -> Iterator[pl.DataFrame]:
    """Yield the plan of each copy: ``copies`` with every kind in the regular sessions, then the off-hours copies.

    If enough bars lie outside the sessions, half as many copies follow with price-only kinds at any hour.

    Args:
        bars: ``BAR_SCHEMA``, one row per symbol and minute.
        sessions: sessions of every calendar that the symbols trade on.
        copies: number of copies for the regular sessions.
        per_symbol_day: anomalies per symbol and day in each copy.
        seed: seed of all plans.
    """
    for copy in range(1, copies + 1):
        plan = plan_injections(bars, per_symbol_day=per_symbol_day, seed=seed * SEED_STRIDE + copy, sessions=sessions)
        yield _without_lone_divergences(plan, bars)
    if _off_hours_share(bars, sessions) < OFF_HOURS_SHARE:
        return
    # Plans require minutes with volume, because a volume effect needs a usual volume. These kinds do not.
    traded = bars.with_columns(volume=pl.lit(1.0))
    for copy in range(copies + 1, copies + 1 + max(1, copies // 2)):
        number = seed * SEED_STRIDE + copy
        plan = plan_injections(traded, per_symbol_day=per_symbol_day, seed=number, kinds=OFF_HOURS_KINDS)
        yield _without_lone_divergences(plan, bars)


def planted_features(
    bars: pl.DataFrame, plan: pl.DataFrame, sessions: SessionTable, *, seed: int, view: FeatureView = CORE_V1
) -> pl.DataFrame:
    """Return feature rows of bars with the anomalies of a plan, and each bar's label.

    A bar without reported volume keeps volume 0. The result has the features of every day of ``bars`` with ``label`` (a
    kind, ``normal``, or null within ``ECHO_BARS`` after an anomaly), ``anomaly_id`` and ``severity``.

    Args:
        bars: ``BAR_SCHEMA``, one row per symbol and minute, sorted by symbol and start.
        plan: ``PLAN_SCHEMA``.
        sessions: sessions of every calendar that the symbols trade on.
        seed: seed of directions and details.
        view: the feature view.
    """
    injected = plant(bars, plan, seed)
    changed = injected.bars.with_columns(
        volume=pl.when(bars["volume"] > 0).then("volume").otherwise(0.0),
        # The recorded market context belongs to the original bars; with planted anomalies their centre differs.
        market_return=pl.lit(None, pl.Float64),
        market_peers=pl.lit(None, pl.Int32),
        market_centre=pl.lit(None, pl.String),
    )
    features = features_of_days(changed, changed["date"].unique().to_list(), sessions, view)
    labelled = features.join(injected.labels, on=["symbol", "bar_start"], how="left", maintain_order="left")
    row = pl.int_range(pl.len())
    since = (row - pl.when(pl.col("kind").is_not_null()).then(row).forward_fill()).over("symbol")
    ordinary = (since > ECHO_BARS).fill_null(value=True)
    planted = pl.when(pl.col("kind").is_not_null()).then("kind")
    return labelled.with_columns(label=planted.when(ordinary).then(pl.lit(NORMAL)))


def _without_lone_divergences(plan: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Drop cross-symbol divergences of minutes in which only one symbol has a bar."""
    peers = bars.group_by("bar_start").agg(symbols=pl.len())
    joined = plan.join(peers, on="bar_start", how="left", maintain_order="left")
    return joined.filter((pl.col("kind") != "cross_symbol_divergence") | (pl.col("symbols") > 1)).select(plan.columns)


def _off_hours_share(bars: pl.DataFrame, sessions: SessionTable) -> float:
    """Return the share of bars outside the sessions of their symbols."""
    outside = 0
    for (symbol,), part in bars.partition_by("symbol", as_dict=True).items():
        starts = part["bar_start"].dt.timestamp("us").to_numpy()
        _, minute, length = sessions.for_symbol(str(symbol)).positions(starts)
        outside += int(((minute < 0) | (minute >= length)).sum())
    return outside / max(len(bars), 1)
