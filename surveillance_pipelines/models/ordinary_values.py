"""The ordinary value of each feature per session phase, which explanations compare an alert with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.models.declared_sizes import number_array
from surveillance_pipelines.models.members import BundleError
from surveillance_pipelines.models.session_phase import PHASES, session_phases

Floats = npt.NDArray[np.float64]

ORDINARY: Final = "ordinary"
"""Key in the reference of a bundle (``market_features.json``). Bundles without it explain as before."""
MIN_PHASE_ROWS: Final = 500
"""Ordinary bars of a phase from which its own values are used; with fewer, those of all phases."""
LEAST_SPREAD: Final = 1e-9
"""Spread of a feature that hardly varies, so that a deviation is finite."""


@dataclass(frozen=True, slots=True, eq=False)
class OrdinaryValues:
    """Ordinary values of d columns.

    Attributes:
        columns: names of the columns.
        median: float64[phases, d]; NaN if training had no value.
        spread: float64[phases, d], half the distance from the 5th to the 95th percentile, positive; NaN as the median.
    """

    columns: tuple[str, ...]
    median: Floats
    spread: Floats

    def of(self, columns: Sequence[str], progress: float, minutes_to_close: float) -> tuple[Floats, Floats]:
        """Return median and spread, float64[F], of the given columns in a session phase; NaN for unknown columns."""
        phase = session_phases(np.array([progress]), np.array([minutes_to_close]))[0]
        found = np.full((2, len(columns)), np.nan)
        for place, name in enumerate(columns):
            if name in self.columns:
                at = self.columns.index(name)
                found[:, place] = self.median[phase, at], self.spread[phase, at]
        return found[0], found[1]


def ordinary_values(values: Floats, phases: npt.NDArray[np.int64], columns: Sequence[str]) -> OrdinaryValues:
    """Return the ordinary values of training bars.

    Args:
        values: float64[n, d] of ordinary bars, NaN where missing.
        phases: int64[n], positions in ``PHASES``.
        columns: names of the d columns.
    """
    median, spread = np.full((2, len(PHASES), len(columns)), np.nan)
    for place in range(len(columns)):
        known = np.isfinite(values[:, place])
        for phase in range(len(PHASES)):
            own = known & (phases == phase)
            chosen = values[own if own.sum() >= MIN_PHASE_ROWS else known, place]
            if len(chosen):
                low, median[phase, place], high = np.quantile(chosen, [0.05, 0.5, 0.95])
                spread[phase, place] = max((high - low) / 2.0, LEAST_SPREAD)
    return OrdinaryValues(tuple(columns), median, spread)


def ordinary_to_json(values: OrdinaryValues) -> dict[str, Any]:
    """Return the JSON form of a bundle; null for NaN."""
    return {
        "columns": list(values.columns),
        "phases": list(PHASES),
        **{
            name: [[None if np.isnan(value) else value for value in row] for row in array.tolist()]
            for name, array in (("median", values.median), ("spread", values.spread))
        },
    }


def parse_ordinary(value: Any, columns: Sequence[str]) -> OrdinaryValues | None:
    """Return the ordinary values that a bundle records, None if it records none.

    Args:
        value: the entry ``ORDINARY`` of the bundle's reference.
        columns: columns of the feature view.

    Raises:
        BundleError: if the entry is incomplete, or does not fit the view.
    """
    if value is None:
        return None
    try:
        named, phases = _names(value["columns"]), value["phases"]
        size = (len(PHASES), len(named))
        median, spread = (_table(value[name], size) for name in ("median", "spread"))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise BundleError(f"expected columns, phases, median and spread in {ORDINARY!r}: {error!r:.200}") from error
    if phases != list(PHASES) or not set(named) <= set(columns) or len(set(named)) != len(named):
        raise BundleError(
            f"expected {ORDINARY!r} to have the phases {list(PHASES)} and different columns of the feature view, got "
            f"{phases!r:.200} and {named!r:.200}"
        )
    if not np.array_equal(np.isnan(median), np.isnan(spread)) or not (spread[~np.isnan(spread)] > 0).all():
        raise BundleError(f"expected a positive spread with each median in {ORDINARY!r}")
    return OrdinaryValues(tuple(named), median, spread)


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("expected names of columns")
    return value


def _table(rows: Any, size: tuple[int, int]) -> Floats:
    """Return rows of numbers and nulls as float64[size].

    Raises:
        ValueError: if they have another shape, or values that are neither finite numbers nor null.
    """
    if not isinstance(rows, list) or len(rows) != size[0]:
        raise ValueError(f"expected {size[0]} rows")
    if not all(isinstance(row, list) and len(row) == size[1] for row in rows):
        raise ValueError(f"expected rows of {size[1]} values")
    known = [[0.0 if value is None else value for value in row] for row in rows]
    return np.where([[value is None for value in row] for row in rows], np.nan, number_array(known, size))
