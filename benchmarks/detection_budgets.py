"""Promised against observed alerts on clean days, per symbol and per session phase."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import binom

from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY, BARS_PER_DAY
from surveillance_pipelines.models.session_phase import PHASE_COLUMNS, PHASES, session_phases

CONFIDENCE: Final = 0.99


def budgets(clean: pl.DataFrame, alerts: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return one row per symbol and one per session phase.

    Args:
        clean: feature rows of the clean test days.
        alerts: bool[n], the anomalous rows.

    Returns:
        group (a symbol or phase), ``by``, bars, alerts, and ``most``: the upper end of the 99% binomial interval of
        the promised number. Alerts come in bursts, so that the interval is narrower than it should be.
    """
    phases = session_phases(*clean.select(PHASE_COLUMNS).to_numpy().T)
    rows = clean.select("symbol", phase=pl.Series([PHASES[phase] for phase in phases]), alert=pl.Series(alerts))
    found = []
    for by in ("symbol", "phase"):
        counts = rows.group_by(by).agg(pl.len(), pl.col("alert").sum()).sort(by)
        found += [_row(by, *counted) for counted in counts.iter_rows()]
    return found


def _row(by: str, group: str, bars: int, alerts: int) -> dict[str, Any]:
    rate = ALERTS_PER_SYMBOL_DAY / BARS_PER_DAY
    return {
        "by": by,
        "group": group,
        "bars": bars,
        "alerts": alerts,
        "promised": round(bars * rate, 2),
        "most": int(binom.interval(CONFIDENCE, bars, rate)[1]),
    }
