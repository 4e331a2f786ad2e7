"""What a bar in progress cannot say yet.

The volume so far is a lower bound of the bar's volume. From the usual volume on it says something: the bar is at least
that heavy. Below it, it says nothing, and a model trained on whole bars would take the first tick of every minute for
an anomaly. Those features are then missing, as they are for a source without volumes.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.features.views import CORE_V1

_RATIO: Final = CORE_V1.columns.index("volume_ratio")
_FROM_VOLUME: Final = np.array(
    [
        CORE_V1.columns.index(name)
        for name in ("volume_z", "volume_ratio", "volume_z_5", "flow_balance_10", "price_volume_divergence",
                     "illiquidity_z")
    ]
)  # fmt: skip
USUAL_VOLUME_RATIO: Final = 1.0
"""The mean volume of the 20 bars before."""


def without_unfinished_volume(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return features of a bar in progress, float64[F] of ``core_v1``, with NaN for what its volume cannot say yet."""
    if features[_RATIO] >= USUAL_VOLUME_RATIO:
        return features
    masked = features.copy()
    masked[_FROM_VOLUME] = np.nan
    return masked
