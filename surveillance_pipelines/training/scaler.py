"""The robust scaler of the model columns: fitted by scikit-learn, carried as JSON, applied in numpy."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import RobustScaler

from surveillance_pipelines.models.autoencoder import Scaling

CLIP: Final = 10.0
"""Ten interquartile ranges: beyond it a value is simply extreme, and how extreme would drown the other columns."""

MIN_SCALE: Final = 1e-12


def fit_scaling(values: npt.NDArray[np.float64]) -> Scaling:
    """Fit median and interquartile range per column.

    Args:
        values: float64[n, d] of training normals, NaN where missing; missing values are left out.

    Returns:
        scaling in which a column without spread, or without any value, has scale 1 (scikit-learn's convention).

    Raises:
        ValueError: if there is no row.
    """
    if len(values) == 0:
        raise ValueError("expected training rows to fit the scaler on, got none")
    # A column that no bar of the training has (a market without peers) would have no median: zero stands for it.
    empty = np.isnan(values).all(axis=0)
    fitted = RobustScaler().fit(np.where(empty, 0.0, values))
    center, spread = (np.asarray(values, dtype=np.float64) for values in (fitted.center_, fitted.scale_))
    return Scaling(center=center, scale=np.where(spread > MIN_SCALE, spread, 1.0), clip=CLIP)


def scaling_to_json(scaling: Scaling, columns: Sequence[str]) -> dict[str, Any]:
    """Return the content of ``market_scaler.json``; floats keep all their bits in JSON."""
    return {
        "method": "sklearn.preprocessing.RobustScaler",
        "columns": list(columns),
        "center": scaling.center.tolist(),
        "scale": scaling.scale.tolist(),
        "clip": scaling.clip,
    }
