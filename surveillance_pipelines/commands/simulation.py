"""The synthetic market as commands use it: the last sessions before a day, the platform's default characters."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now

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


def simulated_bars(symbols: Sequence[str], sessions: "pl.DataFrame", seed: int) -> "pl.DataFrame":
    """Return 1-minute bars of a seeded market in which each symbol has a character of its own."""
    from surveillance_pipelines.market.simulator import default_market, simulate

    return simulate(default_market(symbols, seed, CALENDAR), sessions)
