"""Tests of a bundle's promises on held-out days: its alert budget, and that it finds what the warm-up rules find."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import binomtest

from surveillance_pipelines.evaluation.metrics import block_bootstrap_interval
from surveillance_pipelines.evaluation.thresholds import BARS_PER_DAY
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.models.warmup import WarmupRules

Floats = npt.NDArray[np.float64]

CONFIDENCE: Final = 0.98

EPISODE_GAP: Final = timedelta(minutes=30)
"""Alerts of one symbol at most this far apart belong to one episode."""


@dataclass(frozen=True, slots=True)
class Promises:
    """How a bundle kept its promises.

    Attributes:
        alert_rate: result of ``alert_rate_bound``.
        worse_than_rules: result of ``found_less_than_rules``.
    """

    alert_rate: float
    worse_than_rules: Mapping[str, float]


def measure_promises(
    frame: pl.DataFrame,
    predictions: BundlePredictions,
    features: Floats,
    *,
    original: npt.NDArray[np.bool_],
    seed: int,
) -> Promises:
    """Measure both promises on evaluated bars; the arguments are those of the two functions."""
    return Promises(
        alert_rate_bound(frame, original, predictions.is_anomaly, seed=seed),
        found_less_than_rules(frame, predictions, features),
    )


def alert_rate_bound(
    frame: pl.DataFrame, original: npt.NDArray[np.bool_], alerts: npt.NDArray[np.bool_], *, seed: int
) -> float:
    """Return the lower bound of the interval of alert episodes per symbol and ``BARS_PER_DAY`` ordinary bars.

    Unchanged bars may hold real events, which alert on many bars; an episode counts once. Episodes come in bursts, so
    the bootstrap draws whole days.

    Args:
        frame: the evaluated bars, with ``date``, ``symbol`` and ``bar_start``.
        original: bool[n], True for unchanged bars.
        alerts: bool[n], True for anomalous bars.
        seed: seed of the bootstrap.
    """
    bars = frame.filter(pl.Series(original)).select("date", "symbol", "bar_start", alert=pl.Series(alerts[original]))
    last = pl.when("alert").then("bar_start").forward_fill().shift(1).over("symbol", order_by="bar_start")
    begins = pl.col("alert") & ((pl.col("bar_start") - last) > EPISODE_GAP).fill_null(value=True)
    found, days = bars.select(begins).to_series().to_numpy(), bars["date"].to_numpy()
    low, _ = block_bootstrap_interval(
        lambda rows: BARS_PER_DAY * float(found[rows].mean()), days, confidence=CONFIDENCE, seed=seed
    )
    return low


def found_less_than_rules(frame: pl.DataFrame, predictions: BundlePredictions, features: Floats) -> dict[str, float]:
    """Return, per planted kind, the p-value of "the bundle finds it at least as often as the warm-up rules".

    The exact sign test of the events that only one of the two finds.

    Args:
        frame: the evaluated bars, with ``label``, ``replica`` and ``anomaly_id``.
        predictions: those of the bundle.
        features: float64[n, F], the columns of the feature view.
    """
    bars = frame.select("label", "replica", "anomaly_id").with_columns(
        bundle=pl.Series(predictions.is_anomaly), rules=pl.Series(WarmupRules().predict(features).is_anomaly)
    )
    planted = bars.filter(pl.col("anomaly_id").is_not_null())
    events = planted.group_by("label", "replica", "anomaly_id").agg(pl.col("bundle", "rules").any())
    counts = events.group_by("label").agg(
        lost=(pl.col("rules") & ~pl.col("bundle")).sum(), gained=(pl.col("bundle") & ~pl.col("rules")).sum()
    )
    return {label: _p_value(lost, gained) for label, lost, gained in counts.sort("label").iter_rows()}


def _p_value(lost: int, gained: int) -> float:
    return 1.0 if lost + gained == 0 else float(binomtest(lost, lost + gained, alternative="greater").pvalue)
