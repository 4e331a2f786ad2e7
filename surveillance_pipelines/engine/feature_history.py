"""Feature rows of a symbol's newest final bars, for models that read more than one bar.

The rows are those that were first scored: the live lane keeps the rows it computed, and batch scoring reads them from
the features table. If neither has them, they are recomputed here, each with the state of its UTC day (the 512 bars
before that day), which produces bit-identical values.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.features.views import FeatureView

Floats = npt.NDArray[np.float64]


class BarInputs(NamedTuple):
    """Bars as inputs of the kernel: starts, int64[n], microseconds since the epoch, ascending; rows, f8[n, inputs]."""

    starts: npt.NDArray[np.int64]
    rows: Floats

    @classmethod
    def of(cls, inputs: Mapping[int, Sequence[float] | Floats], view: FeatureView) -> "BarInputs":
        """Return bars given by their starts, in any order."""
        starts = np.array(sorted(inputs), dtype=np.int64)
        rows = np.array([inputs[start] for start in starts.tolist()], dtype=np.float64)
        return cls(starts, rows.reshape(len(starts), len(view.inputs)))

    def after(self, start: int | None) -> "BarInputs":
        """Return the bars that start after an instant, all for None."""
        first = 0 if start is None else int(np.searchsorted(self.starts, start, side="right"))
        return BarInputs(self.starts[first:], self.rows[first:])

    def by_start(self) -> dict[int, Sequence[float] | Floats]:
        """Return start → inputs."""
        return dict(zip(self.starts.tolist(), self.rows, strict=True))


def recent_rows(view: FeatureView, bars: BarInputs, count: int) -> list[Floats]:
    """Return the feature rows, float64[F] each, of the last ``count`` bars (fewer if there are fewer), oldest first.

    Args:
        view: the feature view.
        bars: at least 512 bars before the UTC day of the first wanted bar, or all that exist.
        count: number of rows.
    """
    starts, inputs = bars
    if count <= 0 or len(starts) == 0:
        return []
    first = max(0, len(starts) - count)
    begin = int(np.searchsorted(starts, starts[first] // DAY_US * DAY_US))
    state = FeatureState(view)
    state.seed(starts[:begin], inputs[:begin])
    rows = [state.advance(int(starts[i]), inputs[i]) for i in range(begin, len(starts))]
    return rows[first - begin :]


def first_bar_needed(starts: Sequence[int], count: int, history: int) -> int:
    """Return the position of the first bar needed for the features of the next bar and of ``count`` bars before it.

    Args:
        starts: bar starts, ascending, all before the next bar.
        count: number of feature rows before the next bar.
        history: number of bars from which the state of a UTC day is rebuilt.
    """
    if not starts:
        return 0
    wanted = starts[max(0, len(starts) - max(count, 1))]
    day = wanted // DAY_US * DAY_US
    return max(0, int(np.searchsorted(np.asarray(starts), day)) - history)
