"""Direction probabilities from simple momentum, used while no direction model has passed its gate."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

MOMENTUM_HORIZON_MINUTES: Final = 15
"""Horizon of the momentum probabilities."""

FULL_STRENGTH_Z: Final = 4.0
"""A 15-minute move of this many standard deviations gives the largest probability, 70%."""


def momentum_probabilities(features: npt.NDArray[np.float64], columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return SELL, HOLD, BUY probabilities from the move of the last 15 minutes.

    HOLD is the most probable action up to a move of two standard deviations; a missing move counts as no move.

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
