"""Direction by simple momentum: what signals rest on while no direction model has earned its place."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

MOMENTUM_HORIZON_MINUTES: Final = 15
"""How far ahead momentum's probabilities look."""

FULL_STRENGTH_Z: Final = 4.0
"""A 15-minute move of four standard deviations is as sure as momentum ever gets: 70%."""


def momentum_probabilities(features: npt.NDArray[np.float64], columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return SELL, HOLD, BUY probabilities from the move of the last 15 minutes.

    HOLD leads until the move passes two standard deviations; a missing move is no move.

    Args:
        features: float64[n, len(columns)].
        columns: the feature view's columns; ``return_z_15`` is read.

    Returns:
        float64[n, 3], rows sum to one.
    """
    move = np.nan_to_num(features[:, list(columns).index("return_z_15")], nan=0.0)
    strength = np.clip(np.abs(move) / FULL_STRENGTH_Z, 0.0, 1.0)
    follow = 0.2 + 0.5 * strength
    against = 0.2 - 0.2 * strength
    hold = 1.0 - follow - against
    rising = move >= 0.0
    return np.column_stack([np.where(rising, against, follow), hold, np.where(rising, follow, against)])
