"""The asset class of an instrument, by its spelling or else by its calendar."""

from functools import lru_cache
from typing import Final

from surveillance_pipelines.market.calendar_choice import ALWAYS_OPEN, WEEKDAYS, AssetClass, choose_calendar

_BY_CALENDAR: Final[dict[str, AssetClass]] = {ALWAYS_OPEN: "crypto", WEEKDAYS: "fx", "CMES": "future", "IEPA": "future"}


@lru_cache(maxsize=16_384)  # the live lane asks for each alert
def asset_class_of(symbol: str, calendar: str | None) -> AssetClass:
    """Return the asset class of a symbol.

    Args:
        symbol: the symbol, in a vendor's spelling.
        calendar: its trading calendar, which decides for a spelling that tells none: ``24/7`` is crypto, ``24/5`` is
            fx, CMES and IEPA are futures, and any other calendar is equity.
    """
    by_spelling = choose_calendar(symbol).asset_class
    return by_spelling or _BY_CALENDAR.get(calendar or "", "equity")
