"""The peers' return of the previous minute, for a whole frame and for one live bar.

The ``market_return`` of a bar is the centre of the log returns of the other symbols' revision-0 bars that started one
timeframe earlier, each relative to that symbol's previous bar. The centre is the mean or the median (``MarketCentre``).
Both computations are bit-identical: means are summed in sorted order of the symbols, and a median is one of the returns
or half the sum of two.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterable
from math import isfinite
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from surveillance_pipelines.contracts.market import MarketCentre

MINUTE_US: Final = 60_000_000
_KEPT_MINUTES: Final = 64
_INSERTED: Final = 8  # new returns that are inserted one by one; more are sorted at once

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
_compiled = njit(cache=True, error_model="numpy", nogil=True)


class MarketContext:
    """The newest returns of all symbols, queried once per bar by the live engine.

    Args:
        step: microseconds between bars.
        centre: the centre that ``value`` returns.
    """

    def __init__(self, step: int = MINUTE_US, centre: MarketCentre = "mean") -> None:
        self._step: Final = step
        self._centre: MarketCentre = centre
        self._minutes: dict[int, _MeanOfOthers | _MedianOfOthers] = {}

    def update(self, symbol: str, bar_start: int, log_return: float) -> None:
        """Add the log return of a closed revision-0 bar; NaN (a symbol's first bar) is ignored."""
        if not isfinite(log_return):
            return
        minute = self._minutes.get(bar_start)
        if minute is None:
            self._minutes[bar_start] = minute = _CENTRES[self._centre]()
            while len(self._minutes) > _KEPT_MINUTES:
                del self._minutes[min(self._minutes)]
        minute.add(symbol, log_return)

    def seed(self, symbol: str, returns: Iterable[tuple[int, float]]) -> None:
        """Add the ``FeatureState.recent_returns`` of a restored symbol."""
        for bar_start, log_return in returns:
            self.update(symbol, bar_start, log_return)

    def value(self, symbol: str, bar_start: int) -> tuple[float, int]:
        """Return ``(market_return, peers)`` of a bar, or ``(NaN, 0)`` if no other symbol had a bar one step earlier."""
        minute = self._minutes.get(bar_start - self._step)
        return (math.nan, 0) if minute is None else minute.without(symbol)

    def change_centre(self, centre: MarketCentre) -> None:
        """Return another centre of the same returns from now on."""
        if centre == self._centre:
            return
        self._centre = centre
        for start, minute in self._minutes.items():
            self._minutes[start] = changed = _CENTRES[centre]()
            for symbol, log_return in minute.returns():
                changed.add(symbol, log_return)


class _MeanOfOthers:
    """Returns of one minute in sorted order of the symbols. A mean without one symbol is one pass over the others.

    Leaving a value out is adding zero in its place, which changes no bit: the sum starts at zero, so it is never the
    negative zero. ``add.accumulate`` adds from left to right, unlike ``sum``, which adds pairwise.
    """

    def __init__(self) -> None:
        self._names: Final[list[str]] = []
        self._values = np.empty(16)
        self._sums = np.empty(16)
        self._answers: Final[dict[str, tuple[float, int]]] = {}  # of the returns known now

    def add(self, symbol: str, log_return: float) -> None:
        names, count = self._names, len(self._names)
        at = bisect_left(names, symbol)
        self._answers.clear()
        if at < count and names[at] == symbol:
            self._values[at] = log_return
            return
        if count == len(self._values):
            self._values, self._sums = np.concatenate((self._values, np.empty(count))), np.empty(2 * count)
        self._values[at + 1 : count + 1] = self._values[at:count]
        self._values[at] = log_return
        names.insert(at, symbol)

    def without(self, symbol: str) -> tuple[float, int]:
        if (answer := self._answers.get(symbol)) is None:
            self._answers[symbol] = answer = self._mean(symbol)
        return answer

    def returns(self) -> Iterable[tuple[str, float]]:
        return zip(self._names, self._values.tolist(), strict=False)  # the array is longer

    def _mean(self, symbol: str) -> tuple[float, int]:
        count, at = len(self._names), bisect_left(self._names, symbol)
        if at == count or self._names[at] != symbol:
            return self._sum(count) / count, count
        if count == 1:
            return math.nan, 0
        own, self._values[at] = self._values[at], 0.0
        total = self._sum(count)
        self._values[at] = own
        return total / (count - 1), count - 1

    def _sum(self, count: int) -> float:
        sums = self._sums[:count]
        np.add.accumulate(self._values[:count], out=sums)
        return 0.0 + float(sums[-1])


class _MedianOfOthers:
    """Returns of one minute. A median without one symbol is one of three values, which depend on all returns.

    The three are found when the first bar asks after new returns: a few of these are inserted into the ascending list,
    many are sorted into it at once.
    """

    def __init__(self) -> None:
        self._returns: Final[dict[str, float]] = {}
        self._ranked: list[float] = []
        self._new: Final[list[float]] = []  # not yet in the ascending list
        self._all = self._below = self._between = self._above = (math.nan, 0)
        self._low = self._high = math.nan

    def add(self, symbol: str, log_return: float) -> None:
        returns = self._returns
        if symbol in returns:  # rare: the list is built again
            self._ranked = []
            self._new[:] = [value for name, value in returns.items() if name != symbol]
        # One zero: the order of 0.0 and −0.0 would depend on the order of the symbols.
        returns[symbol] = value = log_return + 0.0
        self._new.append(value)

    def without(self, symbol: str) -> tuple[float, int]:
        if self._new:
            self._rank()
        own = self._returns.get(symbol)
        if own is None:
            return self._all
        return self._above if self._high < own else self._between if self._low < own else self._below

    def returns(self) -> Iterable[tuple[str, float]]:
        return self._returns.items()

    def _rank(self) -> None:
        ranked, new = self._ranked, self._new
        if len(new) <= _INSERTED:
            for value in new:
                insort(ranked, value)
        else:
            ranked += new
            ranked.sort()
        new.clear()
        count = len(ranked)
        self._all = 0.5 * (ranked[(count - 1) // 2] + ranked[count // 2]), count
        others = count - 1
        if others == 0:
            return  # the values of no peers, as they are initially
        low, high = (others - 1) // 2, others // 2
        self._low, self._high = ranked[low], ranked[high]
        # Behind the symbol's own return, the others are one place further.
        self._below = 0.5 * (ranked[low + 1] + ranked[high + 1]), others
        self._between = 0.5 * (ranked[low] + ranked[high + 1]), others
        self._above = 0.5 * (ranked[low] + ranked[high]), others


_CENTRES: Final[dict[MarketCentre, type[_MeanOfOthers] | type[_MedianOfOthers]]] = {
    "mean": _MeanOfOthers,
    "median": _MedianOfOthers,
}


@_compiled
def log_returns(symbols: Integers, closes: Floats) -> Floats:
    """Return each bar's log return, f8[n], NaN for a symbol's first bar; rows are sorted by symbol and time.

    The logarithm is that of numba, as in the kernel, because numpy's vectorised one differs in the last bit.
    """
    out = np.full(len(closes), math.nan)
    for i in range(1, len(closes)):
        if symbols[i] == symbols[i - 1]:
            out[i] = math.log(closes[i] / closes[i - 1])
    return out


def peer_returns(
    starts: Integers, symbols: Integers, returns: Floats, step: int, *, centre: MarketCentre, wanted: Flags
) -> tuple[Floats, Integers]:
    """Return the market return, f8[n], and the number of peers, int64[n], of each wanted bar; NaN and 0 for the others.

    Args:
        starts: int64[n] bar starts in microseconds; rows sorted by symbol, then start.
        symbols: int64[n] ranks of the symbols in sorted order.
        returns: f8[n] log returns, NaN if absent.
        step: microseconds between bars.
        centre: mean or median.
        wanted: bool[n], bars of the result.
    """
    order = _by_time(starts, step)
    places = np.ascontiguousarray(starts[order]), symbols[order], returns[order], wanted[order]
    values, peers = np.empty(len(starts)), np.empty(len(starts), dtype=np.int64)
    values[order], peers[order] = _fill(*places, step, centre == "median")
    return values, peers


@_compiled
def _by_time(starts: Integers, step: int) -> Integers:
    """Return the order of rows by start, equal starts in the order of the rows; linear for starts on a dense grid."""
    if len(starts) == 0:
        return np.empty(0, dtype=np.int64)
    first = starts.min()
    minutes = (starts.max() - first) // step + 2
    if minutes > 4 * len(starts) + 100_000:
        return np.argsort(starts, kind="mergesort")
    begins = np.zeros(minutes, dtype=np.int64)
    for start in starts:
        if (start - first) % step != 0:
            return np.argsort(starts, kind="mergesort")
        begins[(start - first) // step + 1] += 1
    begins = np.cumsum(begins)
    order = np.empty(len(starts), dtype=np.int64)
    for i in range(len(starts)):
        minute = (starts[i] - first) // step
        order[begins[minute]] = i
        begins[minute] += 1
    return order


@_compiled
def _means(symbols: Integers, returns: Floats, wanted: Integers, out: Floats, peers: Integers) -> None:
    """Write the mean without each wanted symbol; both lists of symbols are sorted.

    All sums that already left their symbol out continue side by side, so each is the sum in sorted order of the others.
    """
    before, passed = 0.0, 0
    for k in range(len(symbols)):
        while passed < len(wanted) and wanted[passed] < symbols[k]:
            out[passed], peers[passed] = before, len(symbols)
            passed += 1
        for j in range(passed):
            out[j] += returns[k]
        if passed < len(wanted) and wanted[passed] == symbols[k]:
            out[passed], peers[passed] = before, len(symbols) - 1
            passed += 1
        before += returns[k]
    out[passed:], peers[passed:] = before, len(symbols)
    for j in range(len(wanted)):
        out[j] = out[j] / peers[j] if peers[j] else math.nan


@_compiled
def _medians(symbols: Integers, returns: Floats, wanted: Integers, out: Floats, peers: Integers) -> None:
    """Write the median without each wanted symbol; both lists of symbols are sorted."""
    ranked, at = np.sort(returns + 0.0), 0
    for j in range(len(wanted)):
        while at < len(symbols) and symbols[at] < wanted[j]:
            at += 1
        own = returns[at] if at < len(symbols) and symbols[at] == wanted[j] else math.inf
        count = len(ranked) - (own < math.inf)
        peers[j], out[j] = count, math.nan
        if count > 0:
            low, high = ranked[(count - 1) // 2], ranked[count // 2]
            low = low if low < own else ranked[(count - 1) // 2 + 1]
            high = high if high < own else ranked[count // 2 + 1]
            out[j] = 0.5 * (low + high)


@_compiled
def _fill(  # noqa: PLR0917 (numba takes arrays as positional arguments)
    starts: Integers, symbols: Integers, returns: Floats, wanted: Flags, step: int, median: bool
) -> tuple[Floats, Integers]:
    """Write the values of the wanted bars of each minute; rows are sorted by start, then symbol."""
    values, peers = np.full(len(starts), math.nan), np.zeros(len(starts), dtype=np.int64)
    before = begin = 0
    while begin < len(starts):
        end = begin
        while end < len(starts) and starts[end] == starts[begin]:
            end += 1
        rows = begin + np.flatnonzero(wanted[begin:end])
        if len(rows) > 0 and starts[begin] - starts[before] == step:
            known = before + np.flatnonzero(np.isfinite(returns[before:begin]))
            out, counts = np.empty(len(rows)), np.empty(len(rows), dtype=np.int64)
            if median:
                _medians(symbols[known], returns[known], symbols[rows], out, counts)
            else:
                _means(symbols[known], returns[known], symbols[rows], out, counts)
            values[rows], peers[rows] = out, counts
        before, begin = begin, end
    return values, peers
