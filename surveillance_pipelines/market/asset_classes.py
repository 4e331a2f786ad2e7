"""The asset class of an instrument, by its spelling or else by its calendar."""

from functools import lru_cache

from surveillance_pipelines.market.calendar_choice import CLASSES, AssetClass, choose_calendar


@lru_cache(maxsize=16_384)  # the live lane asks for each alert
def asset_class_of(symbol: str, calendar: str | None) -> AssetClass:
    """Return the asset class of a symbol.

    Args:
        symbol: the symbol, in a vendor's spelling.
        calendar: its trading calendar, which decides for a spelling that tells none: ``24/7`` is crypto, ``24/5`` is
            fx, CMES, IEPA and XEUR are futures, and any other calendar is equity.
    """
    by_spelling = choose_calendar(symbol).asset_class
    return by_spelling or CLASSES.get(calendar or "", "equity")
