"""Rules for the fallback to Yahoo: when the queue is insufficient, and which gaps to fill. See docs/market-data.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

import numpy as np
import polars as pl

from surveillance_pipelines.clock import DAY_US, MICROSECONDS, day_start_us, utc_date
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.session_bars import runs

MarketSource = Literal["queue", "yahoo", "none"]

YAHOO_MINUTE_DAYS: Final = 29
"""Yahoo serves 1-minute bars of the last 30 days; one day of margin covers time zones."""
LEAST_SHARE: Final = 0.5
"""Share of a session's minutes below which a symbol has a gap. Thinly traded symbols regularly lack some minutes."""
EDGE_MINUTES: Final = 15
"""Minutes without a bar at the start or end of a session above which there is a gap; liquid symbols trade in both."""
LONGEST_BREAK_MINUTES: Final = 100
"""Minutes without a bar between two bars above which there is a gap. The longest lunch break, Shanghai's, lasts 90."""

_MINUTE_US: Final = 60 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class SourceDecision:
    """The current source of market data, and the reason, as a sentence for logs and rows."""

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
    closes_at: int  # µs; the current time while the session is running
    bars_known: int
    bars_expected: int
    edge_minutes: int  # minutes without a bar at its start or end, whichever is longer
    break_minutes: int  # longest run of minutes without a bar between two bars


@dataclass(frozen=True, slots=True)
class FillPlan:
    """Gaps that Yahoo can still fill, and gaps that are too old."""

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
    """Return whether the queue has been without messages for too long.

    A queue is never silent while its market is closed. Silence is measured from the last message or the session's
    opening, whichever is later, so the previous night does not count. A queue that never had a message is silent once
    the market has been open for long enough.

    Args:
        last_message_at: arrival of the last message, microseconds since the epoch; None if there was none.
        now: microseconds since the epoch.
        silence_seconds: ``SQS_SILENCE_SECONDS``.
        session_open: whether the market of any symbol is open.
        opened_at: opening of the current session, microseconds since the epoch; None if unknown.
    """
    if not session_open:
        return False
    heard = [instant for instant in (last_message_at, opened_at) if instant is not None]
    return not heard or now - max(heard) > silence_seconds * MICROSECONDS


def decide_source(
    *, use_queue: bool, fall_back: bool, reachable: bool, silent: bool, queue: str = "the queue"
) -> SourceDecision:
    """Return the source of market data and the reason.

    Args:
        use_queue: ``USE_SQS_DATA_SOURCE``.
        fall_back: ``FALLBACK_TO_YFINANCE``.
        reachable: whether the queue responded.
        silent: see ``queue_is_silent``.
        queue: name of the queue, for the reason.
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

    A session has a gap if less than ``LEAST_SHARE`` of its minutes have a bar, if it has no bar for more than
    ``edge_minutes`` at its start or end, or for more than ``LONGEST_BREAK_MINUTES`` in between. Only past minutes are
    expected to have a bar: a running session is cut off at ``now``, and future sessions are skipped.

    Args:
        bars_1m: ``BAR_SCHEMA``, any sources and revisions; may include adjacent dates.
        sessions: with the calendar of each symbol.
        symbols: symbols to check, including those without any bar.
        first: UTC date, included; a session that trades on any of the dates is checked as a whole.
        last: UTC date, included.
        now: microseconds since the epoch.
        edge_minutes: minutes without a bar after the opening or before the close (or ``now``) that are tolerated.
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
    """Return the UTC dates that the gaps cover, which are the partitions to fill again."""
    dates = {utc_date(edge) for gap in gaps for edge in (gap.opens_at, gap.closes_at - 1)}
    return tuple(sorted(dates))


def _yahoo_or_none(fall_back: bool, why: str) -> SourceDecision:
    if fall_back:
        return SourceDecision("yahoo", f"{why}: requesting bars from Yahoo")
    return SourceDecision("none", f"{why}; Yahoo is not requested because FALLBACK_TO_YFINANCE is false")


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
    """Return a ``Gap`` with counts for every session that trades between two UTC dates, whether or not it is a gap."""
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
        minutes: minutes of the session that have a bar, ascending.
        expected: number of minutes of the session.
    """
    found = runs(~np.isin(np.arange(expected), minutes))
    at_edge = [len(run) for run in found if run[0] == 0 or run[-1] == expected - 1]
    inside = [len(run) for run in found if run[0] > 0 and run[-1] < expected - 1]
    return max(at_edge, default=0), max(inside, default=0)
