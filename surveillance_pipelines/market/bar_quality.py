"""Quality measures of a table of well-formed bars: repeated rows, silences, staleness."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.bar_frames import BAR_KEY

LONGEST_SILENCE_MINUTES: Final = 15
"""Liquid symbols trade every few minutes; a longer silence within a session means a halt, an outage or lost data."""

_MINUTE_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Silence:
    """An interval without bars of a symbol within a session. Instants are microseconds since the epoch, UTC."""

    symbol: str
    since: int  # start of the last bar before the silence
    minutes: int


def repeated_bars(bars: pl.DataFrame) -> int:
    """Return the number of rows that repeat the symbol, timeframe, start and revision of another row."""
    return bars.height - bars.select(*BAR_KEY, "revision").n_unique()


def silences(bars_1m: pl.DataFrame, sessions: SessionTable, longest: int = LONGEST_SILENCE_MINUTES) -> list[Silence]:
    """Return the silences longer than ``longest`` minutes between two bars of one symbol in one session.

    Args:
        bars_1m: ``BAR_SCHEMA``; other revisions than 0 and minutes outside sessions are ignored.
        sessions: covering the bars.
        longest: minutes without a bar that are tolerated.
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
    """Return the number of sessions that have closed since the last bar; 0 means fresh.

    Args:
        last_bar_start: start of the newest bar, microseconds since the epoch.
        sessions: sessions of the symbol's calendar from the bar's day on.
        now_us: current time, microseconds since the epoch.
    """
    closed = sessions.closes_at[sessions.closes_at <= now_us]
    return int(np.count_nonzero(closed > last_bar_start)) - int(_ended_its_session(last_bar_start, sessions, now_us))


def _ended_its_session(last_bar_start: int, sessions: SessionTable, now_us: int) -> bool:
    """Return whether the newest bar lies in a session that has closed since; that session does not count."""
    row = int(sessions.rows_of(np.array([last_bar_start]))[0])
    opens, closes = int(sessions.opens_at[row]), int(sessions.closes_at[row])
    return opens <= last_bar_start < closes <= now_us
