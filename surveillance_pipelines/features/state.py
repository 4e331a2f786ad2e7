"""The live state of one symbol: advance it by closed bars, peek at the bar in progress, keep it as bytes."""

import json
import math
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any, Final

import numpy as np
from numba import float64
from numpy.typing import ArrayLike, NDArray

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.views import CORE_V1, HISTORY_BARS, VIEWS, FeatureView
from surveillance_pipelines.hashing import canonical_json

_MAGIC: Final = b"SPFS1"
_USUAL_BARS: Final = 20
_NEVER: Final = -(1 << 63)
_empty: Final = np.empty  # called for each bar
_ARRAY_FUNCTIONS: Final = Lock()


class SnapshotError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """A snapshot that this code cannot continue from; seed the state from bars instead."""


class FeatureState:
    """The features' memory of one symbol: its last 512 revision-0 bars and the kernel's state within the UTC day.

    At the first bar of a UTC day the kernel's state is rebuilt from those bars, so the features of a day are a function
    of the 512 bars before it and the day's own. Not safe for several threads.
    """

    def __init__(self, view: FeatureView = CORE_V1) -> None:
        self.view: Final = view
        width = len(view.inputs)
        self._features: Final = len(view.columns)
        self._step: Final = _compiled(view.step, 3)
        self._peek: Final = _compiled(view.peek, 4)
        self._bars: Final = np.zeros((HISTORY_BARS, width))  # ring, the next bar goes to self._seen % HISTORY_BARS
        self._rows: Final = list(self._bars)  # its rows: indexing the array makes a new one at each bar
        self._width: Final = width
        self._flat: Final = self._bars.reshape(-1).data  # float64 goes in at half the cost of an array's
        self._starts: Final = np.zeros(HISTORY_BARS, dtype=np.int64)
        self._start_views: Final = self._starts.data
        self._seen = 0
        self._last = _NEVER  # start of the newest bar
        self._enter(-1)
        self._state = np.zeros(view.state_size)
        self._rebuilt: NDArray[np.float64] | None = None  # the state of a new day, after so many bars
        self._rebuilt_at = 0
        self._scratch = np.empty(view.state_size)
        self._bar = np.empty(width)

    @property
    def last_bar_start(self) -> int | None:
        """Start of the last bar advanced, microseconds since the epoch; None before the first."""
        return None if self._last == _NEVER else self._last

    @property
    def last_log_return(self) -> float:
        """Log return of the last bar advanced; NaN where no bar came before it."""
        recent = self.recent_returns(1)
        return recent[0][1] if recent else float("nan")

    def recent_returns(self, count: int = 16) -> list[tuple[int, float]]:
        """Return ``(bar start, log return)`` of the newest bars, oldest first, for the market context.

        Args:
            count: at most so many, up to the 64 that the kernel remembers.
        """
        returns = min(count, int(self._state[kernel.RETURNS_SEEN]), kernel.CAPACITY)
        newest = int(self._state[kernel.RETURNS_SEEN]) - 1
        rows = range(returns - 1, -1, -1)
        return [
            (
                int(self._starts[(self._seen - 1 - back) % HISTORY_BARS]),
                float(self._state[kernel.RETURNS + (newest - back) % kernel.CAPACITY]),
            )
            for back in rows
        ]

    def history(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return starts, int64[n], and inputs, f8[n, 10], of the last 512 bars or all there are, oldest first."""
        order = self._order()
        return self._starts[order], self._bars[order]

    def seed(self, bar_starts: NDArray[np.int64], inputs: NDArray[np.float64]) -> None:
        """Forget everything and take over a history of revision-0 bars.

        The state afterwards is as if the bars had been advanced, given that 512 bars (or all there are) precede the UTC
        day on which features are wanted.

        Args:
            bar_starts: int64[n] microseconds since the epoch, strictly ascending.
            inputs: f8[n, 10] kernel inputs.
        """
        if np.any(np.diff(bar_starts) <= 0):
            raise ValueError("expected bar starts in strictly ascending order; sort and deduplicate the history")
        self._seen, self._last, self._rebuilt = 0, _NEVER, None
        self._enter(-1)
        self._state[:] = 0.0
        if len(bar_starts) == 0:
            return
        today = int(np.searchsorted(bar_starts, bar_starts[-1] // DAY_US * DAY_US))
        for i in range(max(0, today - HISTORY_BARS), today):
            self._remember(int(bar_starts[i]), inputs[i])
        for i in range(today, len(bar_starts)):
            self.advance(int(bar_starts[i]), inputs[i])

    def advance(self, bar_start: int, inputs: ArrayLike) -> NDArray[np.float64]:
        """Take a closed bar in and return its features, f8[F].

        Args:
            bar_start: microseconds since the epoch, after that of every bar before.
            inputs: f8[10] in the order of ``kernel.INPUTS``.

        Raises:
            ValueError: if the bar does not start after the last one.
        """
        if bar_start >= self._day_end or bar_start <= self._last:
            self._state = self._state_on(bar_start)
            self._enter(bar_start // DAY_US)
        out = _empty(self._features)
        slot = self._seen % HISTORY_BARS
        bar = self._rows[slot]
        try:
            start = slot * self._width
            self._flat[start : start + self._width] = inputs  # pyright: ignore[reportArgumentType, reportCallIssue] (other types: below)
        except (TypeError, ValueError):
            bar[:] = inputs
        self._step(self._state, bar, out)
        self._start_views[slot] = bar_start
        self._last = bar_start
        self._seen += 1
        return out

    def peek(self, bar_start: int, inputs: ArrayLike) -> NDArray[np.float64]:
        """Return the features, f8[F], that ``advance`` would return, and change nothing."""
        out = _empty(self._features)
        self._bar[:] = inputs
        self._peek(self._state_on(bar_start), self._scratch, self._bar, out)
        return out

    def usual_volume(self, bar_start: int) -> float:
        """Return the mean volume of the 20 bars with volume before a bar, NaN before there are 20: ``volume_ratio`` 1.

        Args:
            bar_start: microseconds since the epoch, after that of every bar advanced.
        """
        state = self._state_on(bar_start)
        seen = int(state[kernel.VOLUMES_SEEN])
        if seen < _USUAL_BARS:
            return math.nan
        end = kernel.VOLUMES + kernel.CAPACITY + (seen - 1) % kernel.CAPACITY + 1
        return math.fsum(state[end - _USUAL_BARS : end]) / _USUAL_BARS

    def snapshot(self) -> bytes:
        """Return the whole state as bytes; ``restore`` continues from them bit for bit."""
        order = self._order()
        header = {
            "view": self.view.name,
            "source_hash": self.view.source_hash,
            "day": self._day,
            "bars": len(order),
        }
        encoded = canonical_json(header).encode()
        parts = (self._starts[order], self._bars[order], self._state)
        return b"".join((_MAGIC, len(encoded).to_bytes(4, "little"), encoded, *(part.tobytes() for part in parts)))

    @classmethod
    def restore(cls, snapshot: bytes) -> "FeatureState":
        """Return the state that ``snapshot`` holds.

        Raises:
            SnapshotError: if the bytes are no snapshot, or of another view or kernel.
        """
        header, body = _split(snapshot)
        view = VIEWS.get(header["view"])
        if view is None:
            raise SnapshotError(f"expected a snapshot of one of {sorted(VIEWS)}, was of {header['view']!r}")
        if header["source_hash"] != view.source_hash:
            raise SnapshotError(
                f"expected a snapshot of kernel {view.source_hash[:12]}, was of {header['source_hash'][:12]}: "
                "seed the state from bars"
            )
        return cls(view)._load(header, body)  # noqa: SLF001 (its own class)

    def _load(self, header: dict[str, Any], body: memoryview) -> "FeatureState":
        bars, width = header["bars"], len(self.view.inputs)
        wanted = 8 * (bars * (1 + width) + self.view.state_size)
        if len(body) != wanted:
            raise SnapshotError(f"expected {wanted} bytes after the snapshot's header, was {len(body)}")
        self._starts[:bars] = np.frombuffer(body, np.int64, bars)
        self._bars[:bars] = np.frombuffer(body, np.float64, bars * width, 8 * bars).reshape(bars, width)
        self._state[:] = np.frombuffer(body, np.float64, self.view.state_size, 8 * bars * (1 + width))
        self._seen = bars
        self._enter(header["day"])
        self._last = int(self._starts[bars - 1]) if bars else _NEVER
        return self

    def _enter(self, day: int) -> None:
        """Note which UTC day the kernel's state belongs to: days since the epoch, −1 before any bar."""
        self._day, self._day_end = day, (day + 1) * DAY_US

    def _state_on(self, bar_start: int) -> NDArray[np.float64]:
        """Return the kernel's state for a bar: that of its day, or rebuilt from the ring when the day is a new one."""
        if bar_start <= self._last:
            raise ValueError(f"expected a bar that starts after {self._last}, was {bar_start}")
        if bar_start // DAY_US == self._day:
            return self._state
        if self._rebuilt is None or self._rebuilt_at != self._seen:
            self._rebuilt_at = self._seen
            bars = self._bars[self._order()]
            self._rebuilt = np.zeros(self.view.state_size)
            self.view.run(self._rebuilt, bars, np.empty((len(bars), self._features)))
        return self._rebuilt

    def _remember(self, bar_start: int, inputs: NDArray[np.float64]) -> None:
        row = self._seen % HISTORY_BARS
        self._bars[row] = inputs
        self._starts[row] = bar_start
        self._last = bar_start
        self._seen += 1

    def _order(self) -> NDArray[np.int64]:
        """Return the rows of the ring from the oldest bar to the newest."""
        return np.arange(max(0, self._seen - HISTORY_BARS), self._seen) % HISTORY_BARS


@cache
def _compiled(function: Any, arrays: int) -> Callable[..., None]:
    """Return what numba compiled for so many float64 arrays: through its dispatcher, each call looks up their types."""
    _import_array_functions()
    return function.compile((float64[::1],) * arrays)


def _import_array_functions() -> None:
    """Import numba's array functions without SciPy's linear algebra, a fifth of the CPU time of a process's start.

    Numba imports SciPy's here to learn whether it is installed, and again for each function that calls it; the kernel
    calls none. Only numba's own check is replaced, and only for the time of this import.
    """
    from numba.np import linalg

    with _ARRAY_FUNCTIONS:
        if (check := getattr(linalg, "ensure_blas", None)) is None:
            return  # another release of numba
        linalg.ensure_blas = lambda: None
        try:
            from numba.np import arraymath

            arraymath.ensure_blas = check  # pyright: ignore[reportPrivateImportUsage] (its copy of the name)
        finally:
            linalg.ensure_blas = check


def warm_up(view: FeatureView = CORE_V1) -> None:
    """Compile the kernel, or load it from numba's cache, before the first message waits for it."""
    state = FeatureState(view)
    state.advance(0, np.ones(len(view.inputs)))
    state.peek(DAY_US, np.ones(len(view.inputs)))


def _split(snapshot: bytes) -> tuple[dict[str, Any], memoryview]:
    start = len(_MAGIC) + 4
    if len(snapshot) < start or snapshot[: len(_MAGIC)] != _MAGIC:
        raise SnapshotError(f"expected a feature-state snapshot that begins with {_MAGIC!r}, was {snapshot[:8]!r}…")
    end = start + int.from_bytes(snapshot[len(_MAGIC) : start], "little")
    return json.loads(snapshot[start:end]), memoryview(snapshot)[end:]
