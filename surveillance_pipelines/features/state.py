"""The feature state of one symbol: advances by closed bars, peeks at the bar in progress, is stored as a snapshot."""

import json
import math
from functools import cache
from typing import Any, Final

import numpy as np
from numba import float64
from numpy.typing import ArrayLike, NDArray

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.compiled_calls import compiled
from surveillance_pipelines.features.views import CORE_V1, HISTORY_BARS, VIEWS, FeatureView
from surveillance_pipelines.hashing import canonical_json

_MAGIC: Final = b"SPFS1"
_USUAL_BARS: Final = 20
_NEVER: Final = -(1 << 63)
_FIRST_CAPACITY: Final = 16
"""Bars for which a new state has space; it grows with its bars up to ``HISTORY_BARS``."""
_empty: Final = np.empty  # called for each bar


class SnapshotError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """A snapshot that this code cannot restore; seed the state from bars instead."""


class FeatureState:
    """The last 512 revision-0 bars of one symbol and the kernel's state within the UTC day. Not thread-safe.

    At the first bar of a UTC day, the kernel's state is rebuilt from those bars, so the features of a day depend only
    on the 512 bars before it and the day's bars.
    """

    def __init__(self, view: FeatureView = CORE_V1) -> None:
        self.view: Final = view
        width = len(view.inputs)
        self._features: Final = len(view.columns)
        self._step: Final = compiled(view.step, (float64[::1],) * 3)
        self._peek: Final = compiled(view.peek, (float64[::1],) * 4)
        self._width: Final = width
        self._capacity = 0
        self._resize(_FIRST_CAPACITY)
        self._seen = 0
        self._last = _NEVER  # start of the newest bar
        self._set_day(-1)
        self._state = np.zeros(view.state_size)
        self._rebuilt: NDArray[np.float64] | None = None  # the state at the start of a new day
        self._rebuilt_at = 0  # value of self._seen when it was rebuilt
        self._scratch: Final = _scratch_of(view.state_size)
        self._bar = np.empty(width)

    @property
    def last_bar_start(self) -> int | None:
        """Start of the last bar advanced, microseconds since the epoch; None before the first."""
        return None if self._last == _NEVER else self._last

    @property
    def last_log_return(self) -> float:
        """Log return of the last bar advanced; NaN if it was the first bar."""
        recent = self.recent_returns(1)
        return recent[0][1] if recent else float("nan")

    def recent_returns(self, count: int = 16) -> list[tuple[int, float]]:
        """Return ``(bar start, log return)`` of the newest bars, oldest first, for the market context.

        Args:
            count: maximum number, up to the 64 that the kernel keeps.
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
        """Return starts, int64[n], and inputs, f8[n, 10], of the last 512 bars (or fewer), oldest first."""
        order = self._ring_rows()
        return self._starts[order], self._bars[order]

    def seed(self, bar_starts: NDArray[np.int64], inputs: NDArray[np.float64]) -> None:
        """Replace the state by a history of revision-0 bars.

        The result equals a state advanced by all of these bars, if 512 bars (or all that exist) precede the UTC day
        for which features are computed.

        Args:
            bar_starts: int64[n] microseconds since the epoch, strictly ascending.
            inputs: f8[n, 10] kernel inputs.
        """
        if np.any(np.diff(bar_starts) <= 0):
            raise ValueError("expected bar starts in strictly ascending order; sort and deduplicate the history")
        self._seen, self._last, self._rebuilt = 0, _NEVER, None
        self._set_day(-1)
        self._state = np.zeros(self.view.state_size)
        if len(bar_starts) == 0:
            return
        today = int(np.searchsorted(bar_starts, bar_starts[-1] // DAY_US * DAY_US))
        first = max(0, today - HISTORY_BARS)
        rows = np.ascontiguousarray(inputs[first:], dtype=np.float64)
        self.view.run(self._state, rows, np.empty((len(rows), self._features)))
        self._fill(bar_starts[first:], rows)
        self._set_day(self._last // DAY_US)
        if len(rows) <= HISTORY_BARS:  # a later day would be rebuilt from these rows
            self._rebuilt, self._rebuilt_at = self._state, self._seen

    def advance(self, bar_start: int, inputs: ArrayLike) -> NDArray[np.float64]:
        """Add a closed bar and return its features, f8[F].

        Args:
            bar_start: microseconds since the epoch, later than that of every earlier bar.
            inputs: f8[10] in the order of ``kernel.INPUTS``.

        Raises:
            ValueError: if the bar does not start after the last one.
        """
        if bar_start >= self._day_end or bar_start <= self._last:
            self._state, self._rebuilt = self._state_on(bar_start), None
            self._set_day(bar_start // DAY_US)
        out = _empty(self._features)
        slot = self._seen % HISTORY_BARS
        if slot == self._capacity:
            self._resize(min(HISTORY_BARS, 2 * slot))
        bar = self._bars[slot]
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
        """Return the features, f8[F], that ``advance`` would return, without changing the state."""
        out = _empty(self._features)
        self._bar[:] = inputs
        self._peek(self._state_on(bar_start), self._scratch, self._bar, out)
        return out

    def usual_volume(self, bar_start: int) -> float:
        """Return the volume of a bar with ``volume_ratio`` 1: the mean of the 20 previous bars with volume.

        NaN if there are fewer than 20.

        Args:
            bar_start: microseconds since the epoch, later than that of every bar advanced.
        """
        state = self._state_on(bar_start)
        seen = int(state[kernel.VOLUMES_SEEN])
        if seen < _USUAL_BARS:
            return math.nan
        end = kernel.VOLUMES + kernel.CAPACITY + (seen - 1) % kernel.CAPACITY + 1
        return math.fsum(state[end - _USUAL_BARS : end]) / _USUAL_BARS

    def snapshot(self) -> bytes:
        """Return the state as bytes; the restored state computes bit-identical features."""
        order = self._ring_rows()
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
        """Return the state stored by ``snapshot``.

        Raises:
            SnapshotError: if the bytes are not a snapshot, or one of another view or kernel.
        """
        view, header, body = _checked(snapshot)
        return cls(view)._load(header, body)  # noqa: SLF001 (same class)

    @classmethod
    def require_valid(cls, snapshot: bytes) -> None:
        """Raise ``SnapshotError`` if ``restore`` would."""
        _checked(snapshot)

    def _load(self, header: dict[str, Any], body: memoryview) -> "FeatureState":
        bars, width = header["bars"], len(self.view.inputs)
        starts = np.frombuffer(body, np.int64, bars)
        self._fill(starts, np.frombuffer(body, np.float64, bars * width, 8 * bars).reshape(bars, width))
        self._state[:] = np.frombuffer(body, np.float64, self.view.state_size, 8 * bars * (1 + width))
        self._set_day(header["day"])
        return self

    def _fill(self, bar_starts: NDArray[np.int64], rows: NDArray[np.float64]) -> None:
        """Store bars, oldest first, in the empty ring buffer."""
        self._seen, kept = len(rows), len(rows[-HISTORY_BARS:])
        self._resize(min(HISTORY_BARS, max(_FIRST_CAPACITY, kept)))
        slots = np.arange(self._seen - kept, self._seen) % HISTORY_BARS
        self._bars[slots], self._starts[slots] = rows[-HISTORY_BARS:], bar_starts[-HISTORY_BARS:]
        self._last = int(bar_starts[-1]) if kept else _NEVER

    def _resize(self, capacity: int) -> None:
        """Set the capacity of the ring buffer, which wraps at ``HISTORY_BARS`` only; symbols may have few bars."""
        bars, starts = np.zeros((capacity, self._width)), np.zeros(capacity, dtype=np.int64)
        if self._capacity:
            kept = min(capacity, self._capacity)
            bars[:kept], starts[:kept] = self._bars[:kept], self._starts[:kept]
        self._capacity, self._bars, self._starts = capacity, bars, starts
        self._flat = bars.reshape(-1).data  # a memoryview: half the cost of writing to the array
        self._start_views = starts.data

    def _set_day(self, day: int) -> None:
        """Set the UTC day of the kernel's state: days since the epoch, −1 before any bar."""
        self._day, self._day_end = day, (day + 1) * DAY_US

    def _state_on(self, bar_start: int) -> NDArray[np.float64]:
        """Return the kernel's state for a bar: the current state, or one rebuilt from the ring buffer on a new day."""
        if bar_start <= self._last:
            raise ValueError(f"expected a bar that starts after {self._last}, got {bar_start}")
        if bar_start // DAY_US == self._day:
            return self._state
        if self._rebuilt is None or self._rebuilt_at != self._seen:
            self._rebuilt_at = self._seen
            bars = self._bars[self._ring_rows()]
            self._rebuilt = np.zeros(self.view.state_size)
            self.view.run(self._rebuilt, bars, np.empty((len(bars), self._features)))
        return self._rebuilt

    def _ring_rows(self) -> NDArray[np.int64]:
        """Return the row numbers of the ring buffer, from the oldest bar to the newest."""
        return np.arange(max(0, self._seen - HISTORY_BARS), self._seen) % HISTORY_BARS


@cache
def _scratch_of(size: int) -> NDArray[np.float64]:
    """Return memory that all states share: a compiled call fills and reads it while it holds the interpreter's lock."""
    return np.empty(size)


def warm_up(view: FeatureView = CORE_V1) -> None:
    """Compile the kernel, or load it from numba's cache, so that the first message does not wait for it."""
    state = FeatureState(view)
    state.advance(0, np.ones(len(view.inputs)))
    state.peek(DAY_US, np.ones(len(view.inputs)))


def _checked(snapshot: bytes) -> tuple[FeatureView, dict[str, Any], memoryview]:
    """Return a snapshot's view, header and body."""
    header, body = _split(snapshot)
    view = VIEWS.get(header["view"])
    if view is None:
        raise SnapshotError(f"expected a snapshot of one of {sorted(VIEWS)}, got one of {header['view']!r}")
    if header["source_hash"] != view.source_hash:
        raise SnapshotError(
            f"expected a snapshot of kernel {view.source_hash[:12]}, got one of {header['source_hash'][:12]}: "
            "seed the state from bars"
        )
    wanted = 8 * (header["bars"] * (1 + len(view.inputs)) + view.state_size)
    if len(body) != wanted:
        raise SnapshotError(f"expected {wanted} bytes after the snapshot's header, got {len(body)}")
    return view, header, body


def _split(snapshot: bytes) -> tuple[dict[str, Any], memoryview]:
    start = len(_MAGIC) + 4
    if len(snapshot) < start or snapshot[: len(_MAGIC)] != _MAGIC:
        raise SnapshotError(f"expected a feature-state snapshot that begins with {_MAGIC!r}, got {snapshot[:8]!r}…")
    end = start + int.from_bytes(snapshot[len(_MAGIC) : start], "little")
    return json.loads(snapshot[start:end]), memoryview(snapshot)[end:]
