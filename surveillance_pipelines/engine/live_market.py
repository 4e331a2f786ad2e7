"""The peers' returns of a run, for symbols whose timestamps may be far apart.

``MarketContext`` keeps the latest minutes. One symbol whose timestamps run ahead by an hour, or a live feed beside a
recorded one, would displace the minutes of all others. Here, the minutes that were updated last are kept.
"""

from collections.abc import Iterable
from itertools import count
from math import isfinite, nan
from typing import Final

from surveillance_pipelines.contracts.market import MarketCentre
from surveillance_pipelines.features.market import MINUTE_US, MarketContext

SPAN_US: Final = 8 * MINUTE_US
SPANS: Final = 8
"""Spans of time that are kept: an hour of one feed, half an hour each of two that are far apart."""


class LiveMarket(MarketContext):
    """One ``MarketContext`` for each span of time in which bars have closed lately.

    Args:
        centre: the centre that ``value`` returns.
    """

    def __init__(self, centre: MarketCentre = "mean") -> None:
        super().__init__(centre=centre)
        self._span_centre: MarketCentre = centre
        self._spans: dict[int, MarketContext] = {}
        self._updated: dict[int, int] = {}  # span → number of its last update
        self._numbers: Final = count(1)

    def update(self, symbol: str, bar_start: int, log_return: float) -> None:
        self._add(symbol, bar_start, log_return, next(self._numbers))

    def seed(self, symbol: str, returns: Iterable[tuple[int, float]]) -> None:
        for bar_start, log_return in returns:  # not an update: symbols are restored in no order of time
            self._add(symbol, bar_start, log_return, 0)

    def value(self, symbol: str, bar_start: int) -> tuple[float, int]:
        span = self._spans.get((bar_start - MINUTE_US) // SPAN_US)
        return (nan, 0) if span is None else span.value(symbol, bar_start)

    def change_centre(self, centre: MarketCentre) -> None:
        self._span_centre = centre
        for span in self._spans.values():
            span.change_centre(centre)

    def _add(self, symbol: str, bar_start: int, log_return: float, number: int) -> None:
        if not isfinite(log_return):
            return
        start = bar_start // SPAN_US
        self._updated[start] = max(self._updated.get(start, 0), number)
        if start not in self._spans:
            self._spans[start] = MarketContext(centre=self._span_centre)
            while len(self._spans) > SPANS:
                oldest = min(self._spans, key=lambda each: (self._updated[each], each))
                del self._spans[oldest], self._updated[oldest]
        if (span := self._spans.get(start)) is not None:
            span.update(symbol, bar_start, log_return)
