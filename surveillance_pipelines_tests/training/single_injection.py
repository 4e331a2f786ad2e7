"""One planted anomaly at a chosen bar."""

import numpy as np
import polars as pl

from surveillance_pipelines.contracts.frames import conform
from surveillance_pipelines.training.anomaly_shapes import KIND_BARS, SHAPES
from surveillance_pipelines.training.injection import PLAN_SCHEMA, Injected, anomaly_id, plant


def inject(bars: pl.DataFrame, kind: str, at: tuple[str, int], severity: float, seed: int) -> Injected:
    """Return bars with one anomaly that starts at a bar.

    Args:
        bars: ``BAR_SCHEMA``, one row per symbol and minute, any number of symbols.
        kind: one of ``ANOMALY_KINDS``.
        at: symbol, and the bar's start in microseconds since the epoch.
        severity: in local volatilities and median volumes, see ``anomaly_shapes``.
        seed: seed of the length, the direction and the details.

    Raises:
        ValueError: if the kind is unknown, the bar does not exist, or the anomaly does not fit.
    """
    if kind not in SHAPES:
        raise ValueError(f"expected one of {sorted(SHAPES)}, got {kind!r}")
    symbol, start = at
    fewest, most = KIND_BARS[kind]
    length = int(np.random.default_rng(seed).integers(fewest, most + 1))
    name = anomaly_id(symbol, start, kind)
    rows = [(name, symbol, start, kind, severity, length)]
    raw = {**PLAN_SCHEMA, "bar_start": pl.Int64}
    return plant(bars, conform(pl.DataFrame(rows, schema=raw, orient="row"), PLAN_SCHEMA), seed)
