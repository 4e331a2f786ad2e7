"""Feature rows of a symbol's newest final bars, for models that read more than one bar.

The rows are those that were first scored: the live lane keeps the rows it computed, and batch scoring reads them from
the features table. If neither has them, they are recomputed here, each with the state of its UTC day (the 512 bars
before that day), which produces bit-identical values.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.features import kernel
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

    def after(self, others: "BarInputs") -> "BarInputs":
        """Return the bars that start after the last of other bars."""
        first = int(np.searchsorted(self.starts, others.starts[-1], side="right")) if len(others.starts) else 0
        return BarInputs(self.starts[first:], self.rows[first:])

    def by_start(self) -> dict[int, Sequence[float] | Floats]:
        """Return start → inputs."""
        return dict(zip(self.starts.tolist(), self.rows, strict=True))


class BarColumns(NamedTuple):
    """Bars of one symbol as columns: a tenth of the memory of ``Bar`` objects.

    Attributes:
        starts: int64[n], microseconds since the epoch, ascending.
        values: f8[7, n]: open, high, low, close, volume, market return (NaN if unknown), number of peers.
        centre: which centre of the peers' returns the market return is.
    """

    starts: npt.NDArray[np.int64]
    values: Floats
    centre: MarketCentre

    @classmethod
    def joined(cls, parts: Sequence["BarColumns"]) -> "BarColumns":
        """Return consecutive parts as one."""
        if len(parts) == 1:
            return parts[0]
        starts, values, centres = zip(*parts, strict=True)
        return cls(np.concatenate(starts), np.concatenate(values, axis=1), centres[0])

    def between(self, first: int, before: int) -> "BarColumns":
        """Return the bars that start in a range; ``before`` is excluded."""
        begin, end = np.searchsorted(self.starts, (first, before)).tolist()
        return BarColumns(self.starts[begin:end], self.values[:, begin:end], self.centre)

    def inputs(self, sessions: SessionTable, centre: MarketCentre) -> BarInputs:
        """Return the bars as inputs of the kernel; values of another centre count as unknown.

        Args:
            sessions: the trading sessions of the symbol's calendar.
            centre: the centre of the kernel's view.
        """
        rows = np.empty((len(self.starts), len(kernel.INPUTS)))
        rows[:, : kernel.SESSION_ID] = self.values[:5].T
        rows[:, kernel.SESSION_ID : kernel.PEERS_RETURN] = np.stack(sessions.positions(self.starts), axis=1)
        rows[:, kernel.PEERS_RETURN :] = self.values[5:].T if centre == self.centre else (np.nan, 0.0)
        return BarInputs(self.starts, rows)


def with_missed(own: BarInputs, missed: BarInputs, before: int) -> dict[int, Sequence[float] | Floats]:
    """Return start → inputs of a symbol's own bars and of those of other sources that start before an instant.

    Own bars keep their values. Only an unknown peers' return is taken from the others: after a change of its centre, a
    state does not have that of older bars.
    """
    others = missed.by_start()
    bars = {start: row for start, row in others.items() if start < before}
    for start, row in own.by_start().items():
        bars[start] = row
        if start in others and math.isnan(row[kernel.PEERS_RETURN]):
            bars[start] = (*row[: kernel.PEERS_RETURN], *others[start][kernel.PEERS_RETURN :])
    return bars


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
