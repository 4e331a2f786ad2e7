"""Windows of feature rows for models that read more than one bar."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def windows_of(values: Floats, positions: npt.NDArray[np.intp], begins: npt.NDArray[np.intp], length: int) -> Floats:
    """Return the windows that end at the given rows, float64[n, length, F], NaN before the first row of a series.

    Args:
        values: float64[rows, F]; the rows of one series (a symbol, in the order of its bars) are consecutive.
        positions: int[n], the last row of each window.
        begins: int[n], the first row of the window's series.
        length: rows per window.
    """
    rows = positions[:, np.newaxis] - np.arange(length - 1, -1, -1)
    windows = values[np.maximum(rows, 0)]
    windows[rows < begins[:, np.newaxis]] = np.nan
    return windows
