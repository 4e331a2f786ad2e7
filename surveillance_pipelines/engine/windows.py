"""Feature rows of a symbol's newest final bars, for models that read more than one bar.

A row is the one that was first scored: the live lane keeps the rows that it computed, and batch scoring reads them from
the table of features. Where neither has them, they are recomputed here, each with the state of its own UTC day (the 512
bars before that day), which gives the same bits.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.features.views import FeatureView

Floats = npt.NDArray[np.float64]


def recent_rows(view: FeatureView, starts: npt.NDArray[np.int64], inputs: Floats, count: int) -> list[Floats]:
    """Return the feature rows, float64[F] each, of the last ``count`` bars or all there are, oldest first.

    Args:
        view: which features.
        starts: int64[n] bar starts, microseconds since the epoch, ascending.
        inputs: float64[n, inputs] of the kernel; at least 512 bars before the UTC day of the first wanted bar, or all
            there are.
        count: how many rows.
    """
    if count <= 0 or len(starts) == 0:
        return []
    first = max(0, len(starts) - count)
    begin = int(np.searchsorted(starts, starts[first] // DAY_US * DAY_US))
    state = FeatureState(view)
    state.seed(starts[:begin], inputs[:begin])
    rows = [state.advance(int(starts[i]), inputs[i]) for i in range(begin, len(starts))]
    return rows[first - begin :]


def first_bar_needed(starts: Sequence[int], count: int, history: int) -> int:
    """Return the position of the first bar that the features of the next bar and ``count`` rows before it rest on.

    Args:
        starts: bar starts, ascending, all before the next bar.
        count: feature rows wanted.
        history: bars that the state of a UTC day is rebuilt from.
    """
    if not starts:
        return 0
    wanted = starts[max(0, len(starts) - max(count, 1))]
    day = wanted // DAY_US * DAY_US
    return max(0, int(np.searchsorted(np.asarray(starts), day)) - history)
