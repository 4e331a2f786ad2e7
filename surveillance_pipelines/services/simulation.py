"""The synthetic market: the last sessions before a day, with the platform's default characters."""

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
    """Return the ``count`` New York sessions up to ``last``; before today when absent, as only ended ones replay."""
    from surveillance_pipelines.market.calendars import build_sessions

    until = last or now(clock).date() - timedelta(days=1)
    # Two weeks more than twice the sessions bridge every holiday.
    sessions = build_sessions(CALENDAR, until - timedelta(days=2 * count + 14), until)
    return sessions.sort("opens_at").tail(count)


def session_after(last: datetime, clock: Clock = SYSTEM_CLOCK) -> "pl.DataFrame":
    """Return the New York session that opens next after an instant.

    Raises:
        InvalidInputError: if it has not ended yet: the queue's messages may not lie in the future.
    """
    import polars as pl

    from surveillance_pipelines.market.calendars import build_sessions

    # No two sessions lie further apart than two weeks.
    sessions = build_sessions(CALENDAR, last.date(), last.date() + timedelta(days=14))
    found = sessions.filter(pl.col("opens_at") > last).sort("opens_at").head(1)
    closes_at = found["closes_at"][0]
    if closes_at > now(clock):
        raise InvalidInputError(
            f"expected a session that is over after the last one served, which ends at {last:%Y-%m-%d %H:%M} UTC; "
            f"the next one closes at {closes_at:%Y-%m-%d %H:%M} UTC, and ticks of the future are refused",
            remedy="feed another home (`surveillance --home DIR feed simulated`), or repeat after the close",
        )
    return found


def simulated_bars(
    symbols: Sequence[str], sessions: "pl.DataFrame", seed: int, prices: Mapping[str, float] | None = None
) -> "pl.DataFrame":
    """Return 1-minute bars of a seeded market in which each symbol has a character of its own.

    Args:
        symbols: to simulate.
        sessions: to fill.
        seed: equal seeds give equal markets.
        prices: symbol → price before the first session; those of the symbols' characters where absent.
    """
    from surveillance_pipelines.market.simulator import default_market, simulate

    market, known = default_market(symbols, seed, CALENDAR), prices or {}
    own = tuple(replace(symbol, price=known.get(symbol.symbol, symbol.price)) for symbol in market.symbols)
    return simulate(replace(market, symbols=own), sessions)
