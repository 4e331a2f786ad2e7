"""Yahoo Finance as a command asks it: a range of days, an outcome per symbol."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Final

from surveillance_pipelines.clock import now
from surveillance_pipelines.commands.console import counted, say
from surveillance_pipelines.commands.landing import Arrival
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.platform import Platform

_REACH: Final = {"1m": timedelta(days=30), "5m": timedelta(days=60), "15m": timedelta(days=60)}
"""How far back Yahoo keeps bars of an interval; longer ones reach further."""


def fetch(platform: Platform, symbols: Sequence[str], first: date, last: date, interval: Any) -> Arrival:
    """Return the bars that Yahoo has of two days and all between, and print how each symbol went that has none."""
    from surveillance_pipelines.market.yahoo import fetch_bars

    settings = platform.settings
    reach, today = _REACH.get(interval), now(platform.clock).date()
    if reach is not None and first < today - reach:
        raise InvalidInputError(
            f"expected days from {today - reach} on, got {first}: Yahoo keeps {interval} bars for {reach.days} days",
            remedy="a later --start, or a longer --interval (1h, 1d)",
        )
    say(f"asking Yahoo Finance for {interval} bars of {counted(len(symbols), 'symbol')} …")
    result = fetch_bars(
        symbols,
        start=first,
        end=last + timedelta(days=1),
        interval=interval,
        adjustment=settings.yfinance_adjustment,
        cache_folder=platform.home / "cache" / "yfinance",
        batch_size=settings.yfinance_batch_size,
        max_attempts=settings.yfinance_max_attempts,
        clock=platform.clock,
    )
    for symbol in result.missing:
        ended = result.outcomes[symbol]
        say(f"  {symbol}: {ended.outcome} after {counted(ended.attempts, 'attempt')}: {ended.reason}", style="yellow")
    notes = result.notes
    if result.unfinished:
        notes = (*notes, f"{result.unfinished:,} bars were left out because their interval is not over")
    return Arrival(
        "yfinance", result.frame, result.refusals, result.duplicates, result.rows_in - result.unfinished, notes
    )
