"""Conversion of feature columns of a frame to the models' input array."""

import numpy as np
import numpy.typing as npt
import polars as pl


def feature_matrix(frame: pl.DataFrame, columns: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return columns of a frame as a float64[n, d] array in row order, with null as NaN."""
    return np.ascontiguousarray(frame.select(pl.col(columns).cast(pl.Float64).fill_null(float("nan"))).to_numpy())
