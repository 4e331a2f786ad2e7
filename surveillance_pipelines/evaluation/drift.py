"""Feature drift: the distance between the distributions of recent bars and of the training data."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BINS: Final = 10
FLOOR: Final = 1e-4
"""Minimum share of a bin, so that an empty bin does not make the index infinite."""

PSI_NOTICE: Final = 0.1
PSI_ALERT: Final = 0.25
"""Customary thresholds of the population stability index: no shift below 0.1, a different population above 0.25
(Siddiqi, "Credit Risk Scorecards", 2006)."""

ALERT_SHARE: Final = 0.2
"""Share of drifted features above which the champion counts as outdated."""


def reference_histograms(values: Floats, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return, per column, the deciles of the training rows and the share of rows between them, JSON-safe.

    Args:
        values: float64[n, d], NaN where missing.
        columns: names of the d columns.

    Returns:
        column → ``edges`` (inner bin edges, ascending, at most ``BINS`` − 1), ``parts`` (shares of all rows, one more
        than edges), ``missing`` (share of all rows); parts and missing sum to 1.
    """
    return {name: _histogram(values[:, k]) for k, name in enumerate(columns)}


def population_stability(
    reference: Mapping[str, Mapping[str, Any]], values: Floats, columns: Sequence[str]
) -> dict[str, float]:
    """Return the population stability index of each column: ``Σ (now − then) · ln(now / then)``.

    Missing values form a separate bin.

    Args:
        reference: result of ``reference_histograms``; a bundle has it at ``features["columns"]``.
        values: float64[n, d] of recent bars; without rows, every index is NaN.
        columns: names of the d columns.

    Raises:
        KeyError: if the reference lacks a column.
    """
    return {name: _psi(reference[name], values[:, k]) for k, name in enumerate(columns)}


def drifted(indices: Mapping[str, float], limit: float = PSI_ALERT) -> list[str]:
    """Return the columns whose index is above ``limit``, largest first."""
    return sorted((name for name, index in indices.items() if index > limit), key=lambda name: -indices[name])


def _histogram(column: Floats) -> dict[str, Any]:
    present = column[~np.isnan(column)]
    edges = np.unique(np.quantile(present, np.arange(1, BINS) / BINS)) if len(present) else np.empty(0)
    parts, missing = _parts(column, edges)
    return {"edges": edges.tolist(), "parts": parts.tolist(), "missing": missing}


def _psi(histogram: Mapping[str, Any], column: Floats) -> float:
    if len(column) == 0:
        return float("nan")
    parts, missing = _parts(column, np.asarray(histogram["edges"], dtype=np.float64))
    now = np.maximum([*parts, missing], FLOOR)
    then = np.maximum([*histogram["parts"], histogram["missing"]], FLOOR)
    return float(np.sum((now - then) * np.log(now / then)))


def _parts(column: Floats, edges: Floats) -> tuple[Floats, float]:
    present = column[~np.isnan(column)]
    counts = np.bincount(np.searchsorted(edges, present, side="left"), minlength=len(edges) + 1)
    return counts / max(len(column), 1), 1.0 - len(present) / max(len(column), 1)
