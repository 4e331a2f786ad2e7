"""Prices as text for people: significant digits, not a fixed number of decimals."""

import math
from typing import Final

_SIGNIFICANT: Final = 6
_FEWEST: Final = 2
_USUAL: Final = 4
"""Decimals of a price from 1 on; the smallest price step of most exchanges is a hundredth of a cent."""
_MOST: Final = 18
"""Decimals of the smallest unit of the common coins."""


def price_text(price: float) -> str:
    """Return a price in plain notation, with at least two decimals and six significant digits.

    Prices from 1 on have up to four decimals: ``1,631.25``; smaller ones as many as they need: ``0.00000152``.
    """
    if not math.isfinite(price):
        return str(price)
    whole, _, decimals = f"{price:,.{_decimals(abs(price))}f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(_FEWEST, '0')}"


def _decimals(size: float) -> int:
    if size == 0.0:
        return _FEWEST
    before_point = math.floor(math.log10(size)) + 1
    return min(_MOST, max(_USUAL, _SIGNIFICANT - before_point))
