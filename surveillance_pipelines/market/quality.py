"""What can be wrong with a table of bars although every row is well formed: repeats, silences, age."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.bar_frames import BAR_KEY

LONGEST_SILENCE_MINUTES: Final = 15
"""A liquid symbol trades every few minutes; longer silences inside a session are halts, outages or lost data."""

_MINUTE_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Silence:
    """A symbol without bars inside a session. Instants are microseconds since the epoch, UTC."""

    symbol: str
    since: int  # start of the last bar before
    minutes: int


def repeated_bars(bars: pl.DataFrame) -> int:
    """Return how many rows repeat the symbol, timeframe, start and revision of another."""
    return bars.height - bars.select(*BAR_KEY, "revision").n_unique()


def silences(bars_1m: pl.DataFrame, sessions: SessionTable, longest: int = LONGEST_SILENCE_MINUTES) -> list[Silence]:
    """Return the silences longer than ``longest`` minutes between two bars of one symbol in one session.

    Args:
        bars_1m: ``BAR_SCHEMA``; only revision 0 counts. Minutes outside the session are left out.
        sessions: covering the bars.
        longest: minutes without a bar that are still ordinary.
    """
    found: list[Silence] = []
    first_known = bars_1m.filter(pl.col("revision") == 0)
    for (symbol,), part in first_known.partition_by("symbol", as_dict=True).items():
        starts = np.sort(part["bar_start"].dt.timestamp("us").to_numpy())
        found.extend(_silences_of(str(symbol), starts, sessions.for_symbol(str(symbol)), longest))
    return found


def _silences_of(symbol: str, starts: np.ndarray, table: SessionTable, longest: int) -> list[Silence]:
    session, minute, length = table.positions(starts)
    inside = (minute >= 0) & (minute < length)
    starts, session = starts[inside], session[inside]
    missing = np.diff(starts) // _MINUTE_US - 1
    places = np.flatnonzero((missing > longest) & (np.diff(session) == 0))
    return [Silence(symbol, int(starts[place]), int(missing[place])) for place in places]


def sessions_behind(last_bar_start: int, sessions: SessionTable, now_us: int) -> int:
    """Return how many sessions have closed since the last bar: 0 is fresh.

    Args:
        last_bar_start: microseconds since the epoch, of the newest bar.
        sessions: of the symbol's calendar, from the bar's day on.
        now_us: the instant to judge at.
    """
    closed = sessions.closes_at[sessions.closes_at <= now_us]
    return int(np.count_nonzero(closed > last_bar_start)) - int(_ended_its_session(last_bar_start, sessions, now_us))


def _ended_its_session(last_bar_start: int, sessions: SessionTable, now_us: int) -> bool:
    """Say whether the newest bar lies in a session that has closed since: that session is not missing."""
    row = int(sessions.rows_of(np.array([last_bar_start]))[0])
    opens, closes = int(sessions.opens_at[row]), int(sessions.closes_at[row])
    return opens <= last_bar_start < closes <= now_us
