"""When the queue is not enough, and what Yahoo should fill in then. Pure rules; docs/market-data.md in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

import numpy as np
import polars as pl

from surveillance_pipelines.clock import DAY_US, MICROSECONDS, day_start_us, utc_date
from surveillance_pipelines.contracts.sessions import SessionTable

MarketSource = Literal["queue", "yahoo", "none"]

YAHOO_MINUTE_DAYS: Final = 29
"""Yahoo serves 1-minute bars of the last 30 days; a day of margin covers time zones."""
LEAST_SHARE: Final = 0.5
"""A symbol with fewer of a session's minutes than this has a gap; thin symbols rightly miss some minutes."""
EDGE_MINUTES: Final = 15
"""No bar for longer than this at the beginning or the end of a session is a gap; liquid symbols trade in both."""
LONGEST_BREAK_MINUTES: Final = 100
"""No bar for longer than this between two bars is a gap; Shanghai's lunch break, the longest, lasts 90 minutes."""

_MINUTE_US: Final = 60 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class SourceDecision:
    """Where market data should come from now, and why, in a sentence for logs and rows."""

    source: MarketSource
    reason: str

    @property
    def is_fallback(self) -> bool:
        return self.source == "yahoo"


@dataclass(frozen=True, slots=True)
class Gap:
    """A session of a symbol that lacks bars."""

    symbol: str
    session_date: date
    opens_at: int  # µs
    closes_at: int  # µs; the present where the session still runs
    bars_known: int
    bars_expected: int
    edge_minutes: int  # without a bar at its beginning or its end, whichever is longer
    break_minutes: int  # the longest stretch without a bar between two bars


@dataclass(frozen=True, slots=True)
class FillPlan:
    """Gaps that Yahoo can still serve, and those past its memory."""

    fill: tuple[Gap, ...]
    too_old: tuple[Gap, ...]


def queue_is_silent(
    last_message_at: int | None,
    now: int,
    silence_seconds: float,
    session_open: bool,
    *,
    opened_at: int | None = None,
) -> bool:
    """Say whether the queue should have spoken by now.

    A closed market is never silent. Silence counts from the later of the last message and the session's opening, so
    that the night before does not count; a queue never heard of is silent once the market has been open long enough.

    Args:
        last_message_at: microseconds since the epoch when the last message arrived; None for never.
        now: microseconds since the epoch.
        silence_seconds: ``SQS_SILENCE_SECONDS``.
        session_open: whether any symbol's market trades now.
        opened_at: when the present session opened; None if unknown.
    """
    if not session_open:
        return False
    heard = [instant for instant in (last_message_at, opened_at) if instant is not None]
    return not heard or now - max(heard) > silence_seconds * MICROSECONDS


def decide_source(
    *, use_queue: bool, fall_back: bool, reachable: bool, silent: bool, queue: str = "the queue"
) -> SourceDecision:
    """Return where market data comes from.

    Args:
        use_queue: ``USE_SQS_DATA_SOURCE``.
        fall_back: ``FALLBACK_TO_YFINANCE``.
        reachable: whether the queue answered.
        silent: see ``queue_is_silent``.
        queue: its name, for the sentence.
    """
    if not use_queue:
        return _yahoo_or_none(fall_back, f"{queue} is not read (USE_SQS_DATA_SOURCE is false)")
    if not reachable:
        return _yahoo_or_none(fall_back, f"{queue} does not answer")
    if silent:
        return _yahoo_or_none(fall_back, f"{queue} is silent although the market is open")
    return SourceDecision("queue", f"{queue} answers and is not silent")


def gaps_to_fill(
    bars_1m: pl.DataFrame,
    sessions: SessionTable,
    symbols: Sequence[str],
    *,
    first: date,
    last: date,
    now: int,
    edge_minutes: int = EDGE_MINUTES,
) -> FillPlan:
    """Return the sessions in which a symbol lacks 1-minute bars.

    That is: less than ``LEAST_SHARE`` of the minutes have one, or there is none for more than ``edge_minutes`` at the
    beginning or the end, or for more than ``LONGEST_BREAK_MINUTES`` in between. Only minutes that are over count as
    expected: a session that runs ends now, a future one is left out.

    Args:
        bars_1m: ``BAR_SCHEMA``, any sources and revisions, also of the dates before and after.
        sessions: with the calendar of each symbol.
        symbols: to look at, also those without any bar.
        first: UTC date, included; a session that trades on any of the dates is looked at as a whole.
        last: UTC date, included.
        now: microseconds since the epoch.
        edge_minutes: without a bar after the opening or up to the close (or now) that are no gap yet.
    """
    known = _starts_by_symbol(bars_1m)
    found = [
        gap
        for symbol in symbols
        for gap in _gaps_of(symbol, known.get(symbol, np.empty(0, np.int64)), sessions, first, last, now=now)
        if _lacks_bars(gap, edge_minutes)
    ]
    oldest = utc_date(now - YAHOO_MINUTE_DAYS * DAY_US)
    recent = [gap for gap in found if gap.session_date >= oldest]
    return FillPlan(tuple(recent), tuple(gap for gap in found if gap.session_date < oldest))


def days_of(gaps: Sequence[Gap]) -> tuple[date, ...]:
    """Return the UTC dates that gaps touch: the partitions that a fill rewrites."""
    dates = {utc_date(edge) for gap in gaps for edge in (gap.opens_at, gap.closes_at - 1)}
    return tuple(sorted(dates))


def _yahoo_or_none(fall_back: bool, why: str) -> SourceDecision:
    if fall_back:
        return SourceDecision("yahoo", f"{why}: Yahoo stands in")
    return SourceDecision("none", f"{why}, and nothing stands in (FALLBACK_TO_YFINANCE is false)")


def _starts_by_symbol(bars_1m: pl.DataFrame) -> Mapping[str, np.ndarray]:
    minutes = bars_1m.filter(pl.col("timeframe") == "1m").select("symbol", "bar_start").unique()
    parts = minutes.partition_by("symbol", as_dict=True)
    return {str(name): np.sort(part["bar_start"].dt.timestamp("us").to_numpy()) for (name,), part in parts.items()}


def _lacks_bars(gap: Gap, edge_minutes: int) -> bool:
    return (
        gap.bars_known < LEAST_SHARE * gap.bars_expected
        or gap.edge_minutes > edge_minutes
        or gap.break_minutes > LONGEST_BREAK_MINUTES
    )


def _gaps_of(
    symbol: str, starts: np.ndarray, sessions: SessionTable, first: date, last: date, *, now: int
) -> list[Gap]:
    """Return every session that trades between two UTC dates as if it were a gap, with its counts."""
    table, gaps = sessions.for_symbol(symbol), []
    chosen = (table.closes_at > day_start_us(first)) & (table.opens_at < day_start_us(last) + DAY_US)
    rows = zip(
        table.session_ids[chosen].tolist(),
        table.opens_at[chosen].tolist(),
        table.closes_at[chosen].tolist(),
        strict=True,
    )
    for session_id, opens, closes in rows:
        end = min(closes, now)
        if end - opens < _MINUTE_US:
            continue
        expected = (end - opens) // _MINUTE_US
        known = starts[np.searchsorted(starts, opens) : np.searchsorted(starts, end)]
        edge, inside = _stretches((known - opens) // _MINUTE_US, expected)
        gaps.append(Gap(symbol, date.fromordinal(session_id), opens, end, len(known), expected, edge, inside))
    return gaps


def _stretches(minutes: np.ndarray, expected: int) -> tuple[int, int]:
    """Return the longest run of minutes without a bar at either edge of a session, and between two bars.

    Args:
        minutes: of the session that have a bar, ascending.
        expected: minutes of the session.
    """
    if not len(minutes):
        return expected, 0
    edge = max(int(minutes[0]), expected - 1 - int(minutes[-1]))
    return edge, int(np.diff(minutes).max(initial=1)) - 1
