"""The robust scaler of the model columns: fitted with scikit-learn, stored as JSON, applied with numpy."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import RobustScaler

from surveillance_pipelines.contracts.errors import TooLittleDataError
from surveillance_pipelines.models.autoencoder import Scaling

CLIP: Final = 10.0
"""Bound of scaled values, in interquartile ranges. Without it, one extreme value would dominate the other columns."""

MIN_SCALE: Final = 1e-12


def fit_scaling(values: npt.NDArray[np.float64]) -> Scaling:
    """Fit median and interquartile range per column.

    Args:
        values: float64[n, d] of ordinary training bars, NaN where missing; missing values are ignored.

    Returns:
        scaling in which a column without spread or without any value has scale 1 (scikit-learn's convention).

    Raises:
        TooLittleDataError: if there are no rows.
    """
    if len(values) == 0:
        raise TooLittleDataError("expected training rows to fit the scaler on, got none")
    # A column without any value in the training rows (a market without peers) has no median; use zero.
    empty = np.isnan(values).all(axis=0)
    fitted = RobustScaler().fit(np.where(empty, 0.0, values))
    center, spread = (np.asarray(values, dtype=np.float64) for values in (fitted.center_, fitted.scale_))
    return Scaling(center=center, scale=np.where(spread > MIN_SCALE, spread, 1.0), clip=CLIP)


def scaling_to_json(scaling: Scaling, columns: Sequence[str]) -> dict[str, Any]:
    """Return the content of ``market_scaler.json``; JSON preserves floats exactly."""
    return {
        "method": "sklearn.preprocessing.RobustScaler",
        "columns": list(columns),
        "center": scaling.center.tolist(),
        "scale": scaling.scale.tolist(),
        "clip": scaling.clip,
    }
