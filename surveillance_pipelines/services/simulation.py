"""The simulated market: sessions and bars with the default parameters of each symbol."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now
from surveillance_pipelines.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    import polars as pl

CALENDAR: Final = "XNYS"


def last_sessions(count: int, last: date | None = None, clock: Clock = SYSTEM_CLOCK) -> "pl.DataFrame":
    """Return the last ``count`` New York sessions up to ``last``; None means the day before today."""
    from surveillance_pipelines.market.calendars import build_sessions

    until = last or now(clock).date() - timedelta(days=1)
    # Twice the number of sessions plus two weeks covers weekends and holidays.
    sessions = build_sessions(CALENDAR, until - timedelta(days=2 * count + 14), until)
    return sessions.sort("opens_at").tail(count)


def session_after(last: datetime, clock: Clock = SYSTEM_CLOCK) -> "pl.DataFrame":
    """Return the first New York session that opens after an instant.

    Raises:
        InvalidInputError: if the session has not ended yet: future timestamps are refused.
    """
    import polars as pl

    from surveillance_pipelines.market.calendars import build_sessions

    # The gap between two sessions is at most two weeks.
    sessions = build_sessions(CALENDAR, last.date(), last.date() + timedelta(days=14))
    found = sessions.filter(pl.col("opens_at") > last).sort("opens_at").head(1)
    closes_at = found["closes_at"][0]
    if closes_at > now(clock):
        raise InvalidInputError(
            f"expected an ended session after the last served bar, {last:%Y-%m-%d %H:%M} UTC; the next session closes "
            f"at {closes_at:%Y-%m-%d %H:%M} UTC, and future ticks are refused",
            remedy="use another home (`surveillance --home DIR feed simulated`), or repeat after the close",
        )
    return found


def simulated_bars(
    symbols: Sequence[str], sessions: "pl.DataFrame", seed: int, prices: Mapping[str, float] | None = None
) -> "pl.DataFrame":
    """Return 1-minute bars of a simulated market with different parameters per symbol.

    Args:
        symbols: symbols.
        sessions: sessions of the bars.
        seed: random seed; equal seeds give equal markets.
        prices: symbol → price before the first session; default: the price in the symbol's parameters.
    """
    from surveillance_pipelines.market.simulator import default_market, simulate

    market, known = default_market(symbols, seed, CALENDAR), prices or {}
    priced = tuple(replace(symbol, price=known.get(symbol.symbol, symbol.price)) for symbol in market.symbols)
    return simulate(replace(market, symbols=priced), sessions)
