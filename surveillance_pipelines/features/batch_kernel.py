"""The feature kernel for batches: many bars of one symbol at once, bit for bit what ``kernel`` gives bar by bar."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from surveillance_pipelines.features import batch_context, batch_prices, kernel

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

BLOCK: Final = 2048
"""Bars at a time: what a block reads and writes stays in the processor's cache."""

_LOOK_BACK: Final = 64
"""More than the longest window, which a block's scratch holds besides its bars."""

_VOLUMES: Final = 66
"""Bars with volume that a history must have, so that no window of the day reaches to its first bar: 60 for a z score,
five of those for their mean, and the first bar, whose move is unknown."""

_PAIRS: Final = 30
"""Bars with peers that a history must have: the longest window over them."""


def symbol_features(
    inputs: Floats, begin: int, first: int, end: int, *, days: Integers, out: Floats, at: int, chosen: Flags
) -> None:
    """Write the features of the bars ``first`` to ``end`` of one symbol, given its bars from ``begin`` on.

    A day whose history has volume or peers too seldom goes bar by bar: its windows do not reach back as far as those of
    the day before.

    Args:
        inputs: f8[10, N], rows contiguous, in the order of ``kernel.INPUTS``.
        begin: the column where the symbol's history begins.
        first: of its first wanted bar.
        end: behind its last bar.
        days: int64[d, 3], ascending: of each UTC day the columns where its history begins, where it begins, and behind
            its end. Features of a bar in none of them are undefined. A history begins at ``begin``, or 512 bars before
            its day.
        out: f8[48, M], rows contiguous; the features of bar ``first`` go to column ``at``, the others follow.
        at: see ``out``.
        chosen: bool[48], which features are asked for; the rows of ``out`` of the others are undefined.
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
    """Say whether numba's cache holds the batch kernel; else the first call takes a quarter of a minute."""
    compiled: list[Any] = [batch_prices.prices, batch_context.context]
    return all(any(Path(of.stats.cache_path).glob(f"*.{of.__name__}-*.nbi")) for of in compiled)


def _sparse(inputs: Floats, begin: int, end: int, days: Integers) -> Flags:
    """Say of each day whether a window might reach to before its history, bool[d]."""
    volumes = _running(inputs[kernel.VOLUME, begin:end] > 0.0)
    paired = np.isfinite(inputs[kernel.PEERS_RETURN, begin:end])
    paired[:2] = False  # a pair needs a return before, hence two bars
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
