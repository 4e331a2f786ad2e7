"""Labelled feature rows of copies of bars with planted anomalies."""

from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.features.views import CORE_V1, FeatureView
from surveillance_pipelines.training.injection import plant
from surveillance_pipelines.training.injection_plan import plan_injections
from surveillance_pipelines.training.possible_kinds import PEER_KINDS, PRICE_KINDS, bars_with_peers, silent_symbols

ECHO_BARS: Final = 60
"""Bars after a planted anomaly whose windows contain it: neither ordinary nor anomalous, so they have no label."""

SEED_STRIDE: Final = 1_000
"""Distance between the seeds of two training sets, so that their copies never share a seed."""

OFF_HOURS_SHARE: Final = 0.05
"""Share of bars outside sessions from which anomalies are also planted there. Otherwise the classifier would learn that
anomalies never occur outside sessions."""


def plan_copies(
    bars: pl.DataFrame,
    sessions: SessionTable,
    *,
    copies: int,
    per_symbol_day: float,
    seed: int,
    kinds: Sequence[str] = ANOMALY_KINDS,
) -> Iterator[pl.DataFrame]:
    """Yield the plan of each copy: ``copies`` with every kind in the regular sessions, then the off-hours copies.

    Symbols without volume get price-only kinds. If enough bars lie outside the sessions, half as many copies follow
    with price-only kinds at any hour, because some sources report no volume before the opening and after the close.

    Args:
        bars: ``BAR_SCHEMA``, one row per symbol and minute.
        sessions: sessions of every calendar that the symbols trade on.
        copies: number of copies for the regular sessions.
        per_symbol_day: anomalies per symbol and day in each copy.
        seed: seed of all plans.
        kinds: the kinds to plant, at least one of ``PRICE_KINDS``.
    """
    # Plans require minutes with volume, because a volume effect needs a usual volume. Price-only kinds do not.
    traded = bars.with_columns(volume=pl.lit(1.0))
    silent = pl.col("symbol").is_in(silent_symbols(bars))
    price_kinds = [kind for kind in kinds if kind in PRICE_KINDS]
    for copy in range(1, copies + 1):
        number = seed * SEED_STRIDE + copy
        plans = [
            plan_injections(part, per_symbol_day=per_symbol_day, seed=number, kinds=planted, sessions=sessions)
            for part, planted in ((bars.filter(~silent), kinds), (traded.filter(silent), price_kinds))
            if not part.is_empty()
        ]
        yield _without_lone_divergences(pl.concat(plans).sort("symbol", "bar_start"), bars)
    if _off_hours_share(bars, sessions) < OFF_HOURS_SHARE:
        return
    for copy in range(copies + 1, copies + 1 + max(1, copies // 2)):
        number = seed * SEED_STRIDE + copy
        plan = plan_injections(traded, per_symbol_day=per_symbol_day, seed=number, kinds=price_kinds)
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
    """Drop kinds relative to other symbols in minutes in which only one symbol has a bar."""
    lone = plan.filter(pl.col("kind").is_in(PEER_KINDS)).join(
        bars_with_peers(bars), on=["symbol", "bar_start"], how="anti"
    )
    return plan.join(lone, on="anomaly_id", how="anti", maintain_order="left")


def _off_hours_share(bars: pl.DataFrame, sessions: SessionTable) -> float:
    """Return the share of bars outside the sessions of their symbols."""
    outside = 0
    for (symbol,), part in bars.partition_by("symbol", as_dict=True).items():
        starts = part["bar_start"].dt.timestamp("us").to_numpy()
        _, minute, length = sessions.for_symbol(str(symbol)).positions(starts)
        outside += int(((minute < 0) | (minute >= length)).sum())
    return outside / max(len(bars), 1)
