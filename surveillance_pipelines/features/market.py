"""The peers' returns of the previous minute, for a whole frame and for one live bar.

The ``market_return`` of a bar is the mean log return of the other symbols' revision-0 bars that started one timeframe
earlier, each relative to that symbol's previous bar. The returns are summed in sorted order of the symbols, so both
computations are bit-identical.
"""

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

MINUTE_US: Final = 60_000_000
_KEPT_MINUTES: Final = 64

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_compiled = njit(cache=True, error_model="numpy")


class MarketContext:
    """The newest returns of all symbols, queried once per bar by the live engine.

    Args:
        step: microseconds between bars.
    """

    def __init__(self, step: int = MINUTE_US) -> None:
        self._step: Final = step
        self._returns: dict[int, dict[str, float]] = {}
        self._answers: dict[int, dict[str, tuple[float, int]]] = {}

    def update(self, symbol: str, bar_start: int, log_return: float) -> None:
        """Add the log return of a closed revision-0 bar; NaN (a symbol's first bar) is ignored."""
        if not math.isfinite(log_return):
            return
        if bar_start not in self._returns:
            self._returns[bar_start] = {}
            self._forget_old()
        if bar_start in self._returns:
            self._returns[bar_start][symbol] = log_return
            self._answers.pop(bar_start, None)

    def seed(self, symbol: str, returns: Iterable[tuple[int, float]]) -> None:
        """Add the ``FeatureState.recent_returns`` of a restored symbol."""
        for bar_start, log_return in returns:
            self.update(symbol, bar_start, log_return)

    def value(self, symbol: str, bar_start: int) -> tuple[float, int]:
        """Return ``(market_return, peers)`` of a bar, or ``(NaN, 0)`` if no other symbol had a bar one step earlier."""
        minute = bar_start - self._step
        returns = self._returns.get(minute)
        if returns is None:
            return math.nan, 0
        answers = self._answers.setdefault(minute, {})
        if symbol not in answers:
            answers[symbol] = _mean_without(symbol, returns)
        return answers[symbol]

    def _forget_old(self) -> None:
        while len(self._returns) > _KEPT_MINUTES:
            oldest = min(self._returns)
            del self._returns[oldest]
            self._answers.pop(oldest, None)


def _mean_without(symbol: str, returns: dict[str, float]) -> tuple[float, int]:
    total, peers = 0.0, 0
    for name in sorted(returns):
        if name != symbol:
            total += returns[name]
            peers += 1
    return (total / peers if peers else math.nan), peers


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


@_compiled
def peer_means(starts: Integers, symbols: Integers, returns: Floats, step: int) -> tuple[Floats, Integers]:
    """Return the market return, f8[n], and the number of peers, int64[n], of each bar.

    Args:
        starts: int64[n] bar starts in microseconds; rows sorted by start, then symbol.
        symbols: int64[n] ranks of the symbols in sorted order.
        returns: f8[n] log returns, NaN if absent.
        step: microseconds between bars.
    """
    means = np.full(len(starts), math.nan)
    peers = np.zeros(len(starts), dtype=np.int64)
    before = begin = 0
    while begin < len(starts):
        end = begin
        while end < len(starts) and starts[end] == starts[begin]:
            end += 1
        adjacent = starts[begin] - starts[before] == step
        for i in range(begin, end):
            total, count = 0.0, 0
            for j in range(before, begin if adjacent else before):
                if symbols[j] != symbols[i] and math.isfinite(returns[j]):
                    total += returns[j]
                    count += 1
            if count > 0:
                means[i] = total / count
                peers[i] = count
        before, begin = begin, end
    return means, peers
