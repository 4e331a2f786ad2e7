"""The batch form of the feature kernel: many bars of one symbol at once, bit-identical to ``kernel``."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from surveillance_pipelines.features import batch_context, batch_prices, kernel

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

BLOCK: Final = 2048
"""Number of bars processed at a time, so that the data of a block fits in the processor's cache."""

_LOOK_BACK: Final = 64
"""Scratch space of a block in addition to its bars, more than the longest window."""

_VOLUMES: Final = 66
"""Bars with volume that a history must have so that no window of the day includes its first bar: 60 for a z-score, five
z-scores for their mean, and the first bar, whose return is unknown."""

_PAIRS: Final = 30
"""Bars with peers that a history must have, the length of the longest window over pairs."""


def symbol_features(
    inputs: Floats, begin: int, first: int, end: int, *, days: Integers, out: Floats, at: int, chosen: Flags
) -> None:
    """Write the features of the bars ``first`` to ``end`` (exclusive) of one symbol, whose bars start at ``begin``.

    A day whose history has too few bars with volume or peers is computed bar by bar, because its windows must not reach
    past its history.

    Args:
        inputs: f8[10, N], rows contiguous, in the order of ``kernel.INPUTS``.
        begin: column of the first bar of the symbol's history.
        first: column of its first requested bar.
        end: column after its last bar.
        days: int64[d, 3], ascending: per UTC day, the first column of its history, its first column, and the column
            after its last bar. Features of bars outside these days are undefined. A history starts at ``begin`` or 512
            bars before its day.
        out: f8[48, M], rows contiguous; the features of bar ``first`` are written to column ``at``, the others follow.
        at: see ``out``.
        chosen: bool[48], mask of the requested features; rows of ``out`` of other features are undefined.
    """
    series, sparse = np.empty((2, end - begin)), np.empty((6, end - begin))
    scratch, clock = np.empty((7, BLOCK + 2 * _LOOK_BACK)), np.full((2, 1440), np.nan)
    carry, counts = np.zeros(9), np.zeros(2, dtype=np.int64)
    batch_prices.extend(inputs, begin, begin, first, series)
    batch_context.extend(inputs, begin, begin, first, series[0], sparse, counts)
    for start in range(first, end, BLOCK):
        stop, here = min(start + BLOCK, end), at + start - first
        batch_prices.prices(inputs, begin, start, stop, days, chosen, carry, series, scratch, out, here)
        batch_context.context(inputs, begin, start, stop, chosen, counts, series[0], sparse, scratch, clock, out, here)
    if (days[:, 0] == begin).all():
        return
    for history, start, stop in days[_sparse(inputs, begin, end, days)].tolist():
        features = np.empty((stop - history, kernel.N_FEATURES))
        kernel.run(np.zeros(kernel.STATE_SIZE), np.ascontiguousarray(inputs[:, history:stop].T), features)
        out[:, at + start - first : at + stop - first] = features[start - history :].T


def is_compiled() -> bool:
    """Return whether numba's cache contains the batch kernel; otherwise the first call takes about 15 seconds."""
    return all(map(_is_cached, (batch_prices.prices, batch_context.context)))


def _is_cached(function: Any) -> bool:
    folder = function.stats.cache_path  # None without a cache
    return folder is not None and any(Path(folder).glob(f"*.{function.__name__}-*.nbi"))


def _sparse(inputs: Floats, begin: int, end: int, days: Integers) -> Flags:
    """Return for each day whether a window could reach past its history, bool[d]."""
    volumes = _running(inputs[kernel.VOLUME, begin:end] > 0.0)
    paired = np.isfinite(inputs[kernel.PEERS_RETURN, begin:end])
    paired[:2] = False  # a pair needs a previous return, hence two bars
    pairs = _running(paired)
    history, start = days[:, 0] - begin, days[:, 1] - begin
    first_pair = np.minimum(history + 2, end - begin)
    too_few = (volumes[start] - volumes[history] < _VOLUMES) & (volumes[np.minimum(history + 1, end - begin)] > 0)
    too_few |= (pairs[start] - pairs[np.minimum(first_pair, start)] < _PAIRS) & (pairs[first_pair] > 0)
    return too_few & (history > 0)


def _running(flags: Flags) -> Integers:
    counts = np.zeros(len(flags) + 1, dtype=np.int64)
    np.cumsum(flags, out=counts[1:])
    return counts
