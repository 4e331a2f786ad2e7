"""Kinds of anomaly that can exist in bars, and the reasons why others cannot.

A kind that cannot exist is not planted, is no class of the classifier, and is not part of the evaluation.
"""

from collections.abc import Mapping
from typing import Final

import polars as pl

from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS

PEER_KINDS: Final = ("cross_symbol_divergence",)
"""Kinds that are relative to other symbols."""
VOLUME_KINDS: Final = ("volume_spike", "price_volume_divergence", "marking_the_close")
"""Kinds whose volume distinguishes them from others or from ordinary bars."""
PRICE_KINDS: Final = tuple(kind for kind in ANOMALY_KINDS if kind not in VOLUME_KINDS)
"""Kinds that affect the price of bars without volume as well."""

MIN_PEER_SHARE: Final = 0.05
"""Minimum share of bars with another symbol's bar in the same minute; below it, too few examples can be planted."""


def impossible_kinds(bars: pl.DataFrame) -> dict[str, str]:
    """Return the kinds that cannot be learned from bars, each with the reason.

    Args:
        bars: ``BAR_SCHEMA``, one row per symbol and minute; the training days.
    """
    reasons = dict[str, str]()
    share = len(bars_with_peers(bars)) / max(len(bars), 1)
    if share < MIN_PEER_SHARE:
        found = "the bars have one symbol" if bars["symbol"].n_unique() == 1 else f"{share:.1%} of the bars have one"
        reasons |= dict.fromkeys(PEER_KINDS, f"needs another symbol in the same minutes, {found}")
    if len(silent_symbols(bars)) == bars["symbol"].n_unique():
        reasons |= dict.fromkeys(VOLUME_KINDS, "needs volume, the bars have none")
    return {kind: reasons[kind] for kind in ANOMALY_KINDS if kind in reasons}


def possible_kinds(left_out: Mapping[str, str]) -> tuple[str, ...]:
    """Return all kinds but those left out, in the order of ``ANOMALY_KINDS``."""
    return tuple(kind for kind in ANOMALY_KINDS if kind not in left_out)


def bars_with_peers(bars: pl.DataFrame) -> pl.DataFrame:
    """Return symbol and start of the bars in whose minute another symbol has a return, so not only its first bar."""
    ordered = bars.select("symbol", "bar_start").sort("symbol", "bar_start")
    counted = ordered.with_columns(returns=(pl.int_range(pl.len()).over("symbol") > 0).cast(pl.Int64))
    others = pl.col("returns").sum().over("bar_start") - pl.col("returns")
    return counted.filter(others > 0).select("symbol", "bar_start")


def silent_symbols(bars: pl.DataFrame) -> list[str]:
    """Return the symbols without any volume, such as currency pairs and indices of some vendors, sorted."""
    largest = bars.group_by("symbol").agg(pl.col("volume").max())
    return largest.filter(pl.col("volume") <= 0)["symbol"].sort().to_list()
