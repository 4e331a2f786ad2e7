"""The peers' returns of each minute of a day, kept so that one symbol's market returns are a look-up.

The values are bit-identical to those of ``market.peer_returns``. A median without one symbol is one of three values,
so six numbers per minute suffice for it. A mean without one symbol needs every return of the minute.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from surveillance_pipelines.contracts.market import MarketCentre

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_compiled = njit(cache=True, error_model="numpy", nogil=True)

MINUTE_US: Final = 60_000_000
_RADIX_SORTED: Final = 1 << 15
"""Number of minutes up to which rows are sorted by a 16-bit minute, for which numpy uses a radix sort."""
_ALL, _LOW, _HIGH, _NEXT_LOW, _NEXT_HIGH = range(5)


class MedianMinutes(NamedTuple):
    """The minutes of a day, for medians.

    Attributes:
        starts: int64[m], starts of the minutes with bars, microseconds since the epoch, ascending.
        counts: int64[m], number of finite returns.
        ranked: f8[5, m]: the median of all returns; the two returns in the middle without one symbol whose return is
            above them; and the next greater one of each.
    """

    starts: Integers
    counts: Integers
    ranked: Floats

    def without(
        self, symbols: Sequence[str], lengths: Integers, starts: Integers, own: Floats
    ) -> tuple[Floats, Integers]:
        """Return the median of the other symbols' returns, f8[n], and their number, int64[n]; NaN and 0 if unknown.

        Args:
            symbols: the symbols.
            lengths: int64[len(symbols)], number of rows of each symbol.
            starts: int64[n], minutes.
            own: f8[n], return of the row's symbol in that minute, NaN if it has none.
        """
        del symbols, lengths
        values, peers = np.full(len(starts), math.nan), np.zeros(len(starts), dtype=np.int64)
        rows, place = _places(self.starts, starts)
        own = own[rows]
        counted, ranked = np.isfinite(own), self.ranked[:, place]
        with np.errstate(invalid="ignore"):
            low = np.where(ranked[_LOW] < own, ranked[_LOW], ranked[_NEXT_LOW])
            high = np.where(ranked[_HIGH] < own, ranked[_HIGH], ranked[_NEXT_HIGH])
        peers[rows] = self.counts[place] - counted
        medians = np.where(counted, 0.5 * (low + high), ranked[_ALL])
        values[rows] = np.where(peers[rows] > 0, medians, math.nan)
        return values, peers


class MeanMinutes(NamedTuple):
    """The minutes of a day, for means.

    Attributes:
        starts: int64[m], starts of the minutes with bars, microseconds since the epoch, ascending.
        ends: int64[m], position after the last return of each minute.
        codes: int32[k], positions in ``names`` of the symbols with a finite return, ascending within a minute.
        returns: f8[k], their returns.
        names: symbols of the day, ascending.
    """

    starts: Integers
    ends: Integers
    codes: NDArray[np.int32]
    returns: Floats
    names: list[str]

    def without(
        self, symbols: Sequence[str], lengths: Integers, starts: Integers, own: Floats
    ) -> tuple[Floats, Integers]:
        """Return the mean of the other symbols' returns, as ``MedianMinutes.without``; costs one pass per row."""
        del own
        rows, place = _places(self.starts, starts)
        code_of = dict(zip(self.names, range(len(self.names)), strict=True))
        codes = np.repeat(np.array([code_of.get(symbol, -1) for symbol in symbols], dtype=np.int64), lengths)
        order = np.argsort(place, kind="stable")  # rows of one minute are summed side by side
        rows, place = rows[order], place[order]
        values, peers = np.full(len(starts), math.nan), np.zeros(len(starts), dtype=np.int64)
        values[rows], peers[rows] = _means(place, codes[rows], self.ends, self.codes, self.returns)
        return values, peers


Minutes = MedianMinutes | MeanMinutes


def minutes_of(
    names: list[str], lengths: Integers, starts: Integers, returns: Floats, centre: MarketCentre
) -> MedianMinutes | MeanMinutes:
    """Return the minutes of a day.

    Args:
        names: symbols of the day, ascending.
        lengths: int64[len(names)], number of bars of each symbol.
        starts: int64[n] bar starts; rows sorted by symbol, then start.
        returns: f8[n] log returns, NaN if absent.
        centre: mean or median.
    """
    order, begins = _by_time(starts)
    minutes, ordered = starts[order[begins[:-1]]], returns[order]
    if centre == "median":
        return MedianMinutes(minutes, *_medians(ordered, begins))
    known = np.isfinite(ordered)
    codes = np.repeat(np.arange(len(names), dtype=np.int32), lengths)[order]
    ends = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(known)))[begins[1:]]
    return MeanMinutes(minutes, ends, codes[known], ordered[known], names)


def _by_time(starts: Integers) -> tuple[Integers, Integers]:
    """Return the order of rows by start, equal starts in the order of the rows, and where each start begins, and n."""
    if len(starts) == 0:
        return starts, np.zeros(1, dtype=np.int64)
    since = starts - starts.min()
    minute = since // MINUTE_US
    if minute.max() < _RADIX_SORTED and np.array_equal(minute * MINUTE_US, since):
        counts = np.bincount(minute)
        return np.argsort(minute.astype(np.int16), kind="stable"), np.append(0, np.cumsum(counts[counts > 0]))
    order = np.argsort(starts, kind="stable")
    return order, np.concatenate(([0], np.flatnonzero(np.diff(starts[order])) + 1, [len(starts)]))


def _places(minutes: Integers, starts: Integers) -> tuple[Integers, Integers]:
    """Return the rows whose start is one of the minutes, and the position of each in the minutes."""
    place = np.searchsorted(minutes, starts)
    rows = np.flatnonzero(place < len(minutes))
    rows = rows[minutes[place[rows]] == starts[rows]]
    return rows, place[rows]


def _medians(returns: Floats, begins: Integers) -> tuple[Integers, Floats]:
    """Return the number of finite returns and the ranked values of each minute; see ``MedianMinutes``."""
    finite = np.isfinite(returns)
    ranked = np.where(finite, returns + 0.0, math.nan)  # one zero: the order of 0.0 and -0.0 is not defined
    for begin, end in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
        ranked[begin:end].sort()  # NaN last
    counts = np.diff(np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(finite)))[begins])
    out = np.full((5, len(counts)), math.nan)
    some = np.flatnonzero(counts > 0)
    first, count = begins[some], counts[some]
    out[_ALL, some] = 0.5 * (ranked[first + (count - 1) // 2] + ranked[first + count // 2])
    some = np.flatnonzero(counts > 1)
    low, high = begins[some] + (counts[some] - 2) // 2, begins[some] + (counts[some] - 1) // 2
    out[_LOW, some], out[_HIGH, some] = ranked[low], ranked[high]
    out[_NEXT_LOW, some], out[_NEXT_HIGH, some] = ranked[low + 1], ranked[high + 1]
    return counts, out


@_compiled
def _means(
    place: Integers, own: Integers, ends: Integers, codes: NDArray[np.int32], returns: Floats
) -> tuple[Floats, Integers]:
    """Return the mean of each row's minute without the row's symbol, and the number of others; rows sorted by minute.

    Adding zero in place of a symbol's own return changes no bit: a sum starts at zero, so it is never negative zero.
    """
    values, peers = np.empty(len(place)), np.empty(len(place), dtype=np.int64)
    start = 0
    while start < len(place):
        stop = start
        while stop < len(place) and place[stop] == place[start]:
            stop += 1
        begin, end = 0 if place[start] == 0 else ends[place[start] - 1], ends[place[start]]
        sums, counts, mine = values[start:stop], peers[start:stop], own[start:stop]
        sums[:], counts[:] = 0.0, end - begin
        for k in range(begin, end):
            for j in range(len(mine)):
                sums[j] += 0.0 if mine[j] == codes[k] else returns[k]
                counts[j] -= mine[j] == codes[k]
        for j in range(len(mine)):
            sums[j] = sums[j] / counts[j] if counts[j] > 0 else math.nan
        start = stop
    return values, peers
