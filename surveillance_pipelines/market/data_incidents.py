"""Data incidents: faults of the data, as opposed to what the market did.

A pure function of bars and sessions. What is a fault depends on what is usual for the symbol: its last sessions tell
how many minutes have no bar and for how long, and how long a price stands still. Minutes outside sessions and in lunch
breaks do not count.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import polars as pl

from surveillance_pipelines.clock import DAY_US, MICROSECONDS, day_start_us
from surveillance_pipelines.contracts.price_text import price_text
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.hashing import sha256_json
from surveillance_pipelines.market.session_bars import (
    Presence,
    SessionBars,
    Slot,
    bars_by_session,
    longest,
    runs,
    slots,
)
from surveillance_pipelines.market.splits import possible_split

DataIncidentKind = Literal["feed_silence", "missing_bars", "stale_price", "possible_split"]
KINDS: Final[tuple[DataIncidentKind, ...]] = ("feed_silence", "missing_bars", "stale_price", "possible_split")

HISTORY: Final = 10
"""Sessions before that tell what is usual."""
LEAST_HISTORY: Final = 3
"""Sessions with bars from which it is known what is usual; before, a symbol has no data incidents."""
LEAST_RUN: Final = 2
"""Smallest number of minutes without a bar that can be an incident: single minutes without a trade are ordinary."""
CHANCE: Final = 1e-3
"""Expected number of runs per session from which a run counts as chance, if minutes lacked bars independently."""
RUN_FACTOR: Final = 2.0
"""A run of a symbol is far longer than usual from this multiple of its longest usual run on."""
LEAST_SHARE: Final = 0.6
"""Share of the usual number of bars below which bars are missing, wherever in the session."""
MISSING_FACTOR: Final = 3.0
MISSING_MARGIN: Final = 0.05
"""Bars are also missing if the share of minutes without one is this multiple of the usual one, plus this margin."""
LEAST_MINUTES: Final = 30
"""Minutes of a session that must have passed before shares are compared."""
STALE_MINUTES: Final = 10
"""Smallest number of minutes that a price without volume must stand still."""
STALE_FACTOR: Final = 3.0

_MINUTE_US: Final = 60 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class DataIncident:
    """One fault of the data. Instants are microseconds since the epoch, UTC.

    Attributes:
        kind: kind of the fault.
        calendar: trading calendar of the symbol.
        symbol: symbol; empty for all symbols of the calendar.
        session_date: date of the session.
        first_minute: start of the first affected minute.
        last_minute: start of the last affected minute.
        minutes: number of affected minutes of the session.
        opens_at: opening of the session.
        evidence: measured and usual values.
        sentence: what happened, in one sentence.
    """

    kind: DataIncidentKind
    calendar: str
    symbol: str
    session_date: date
    first_minute: int
    last_minute: int
    minutes: int
    opens_at: int
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Deterministic id: an incident that goes on keeps it."""
        return sha256_json(["data_incident", self.kind, self.calendar, self.symbol, self.first_minute])


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual for a symbol or a feed, from its sessions before.

    Attributes:
        missing: median share of minutes without a bar.
        much_missing: the same, which three of four sessions do not exceed.
        run: minutes of the longest run without a bar, apart from the session with the longest one.
    """

    missing: float
    much_missing: float
    run: int

    @classmethod
    def of(cls, history: Sequence[Presence]) -> "Usual":
        shares = [float(np.mean(~presence.has_bar)) for presence in history]
        # A fault of one session must not hide the same fault of the next.
        longest_runs = sorted(longest(~presence.has_bar) for presence in history)
        return cls(float(np.median(shares)), float(np.quantile(shares, 0.75)), longest_runs[-2])

    def run_by_chance(self, minutes: int, sessions: int) -> int:
        """Return the smallest run that is rarer than ``CHANCE`` in a session of so many minutes."""
        rate = min(max(self.missing, 1.0 / (minutes * sessions + 2)), 0.99)
        return max(math.ceil(math.log(CHANCE / minutes) / math.log(rate)), LEAST_RUN)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """What is judged: one session of a symbol or, with an empty symbol, of the feed of a calendar.

    Attributes:
        calendar: trading calendar.
        symbol: symbol; empty for the feed.
        slot: the session.
        before: sessions before that tell what is usual.
    """

    calendar: str
    symbol: str
    slot: Slot
    before: Sequence[Slot]

    def incident(
        self, kind: DataIncidentKind, places: np.ndarray, sentence: str, evidence: Mapping[str, float]
    ) -> DataIncident:
        """Return an incident of the minutes at ``places`` of the slot."""
        slot = self.slot
        first, last = (slot.opens_at + int(slot.minutes[place]) * _MINUTE_US for place in (places[0], places[-1]))
        return DataIncident(
            kind=kind,
            calendar=self.calendar,
            symbol=self.symbol,
            session_date=slot.session_date,
            first_minute=first,
            last_minute=last,
            minutes=len(places),
            opens_at=slot.opens_at,
            sentence=sentence,
            evidence={name: value for name, value in evidence.items() if math.isfinite(value)},
        )


def find_data_incidents(
    bars_1m: pl.DataFrame,
    sessions: SessionTable,
    *,
    first: date,
    last: date,
    now: int,
    breaks: Mapping[str, np.ndarray] | None = None,
) -> list[DataIncident]:
    """Return the faults of the bars of a range of days, by first minute and symbol.

    Args:
        bars_1m: ``BAR_SCHEMA``, with the days before ``first`` that hold ``HISTORY`` sessions; other revisions than 0
            and minutes outside sessions are ignored.
        sessions: with the calendar of each symbol, covering the bars.
        first: UTC date, included; sessions that open on it are judged.
        last: UTC date, included.
        now: microseconds since the epoch; later minutes are not expected to have bars.
        breaks: calendar → int64[n, 2], lunch breaks in microseconds since the epoch.
    """
    found: list[DataIncident] = []
    by_symbol = bars_by_session(bars_1m, sessions)
    calendars = {symbol: sessions.for_symbol(symbol).calendar for symbol in by_symbol}
    begin, end = day_start_us(first), day_start_us(last) + DAY_US
    for calendar in sorted(set(calendars.values())):
        members = {symbol: each for symbol, each in by_symbol.items() if calendars[symbol] == calendar}
        table = sessions.for_symbol(next(iter(members)))
        every = slots(table, now, (breaks or {}).get(calendar))
        feed = {slot.row: _feed_presence(members, slot) for slot in every}
        for place, slot in enumerate(every):
            if not begin <= slot.opens_at < end or not slot.length:
                continue
            before = every[max(0, place - HISTORY) : place]
            found += _feed_incidents(_Case(calendar, "", slot, before), feed)
            for symbol, bars in members.items():
                found += _symbol_incidents(_Case(calendar, symbol, slot, before), bars, feed)
    return sorted(found, key=lambda each: (each.first_minute, each.symbol, each.kind))


def _feed_presence(members: Mapping[str, SessionBars], slot: Slot) -> Presence:
    has_bar = np.zeros(slot.length, dtype=bool)
    for bars in members.values():
        has_bar |= bars.presence(slot).has_bar
    return Presence(slot, has_bar)


def _feed_incidents(case: _Case, feed: Mapping[int, Presence]) -> list[DataIncident]:
    history = [feed[slot.row] for slot in case.before if feed[slot.row].has_bar.any()]
    if len(history) < LEAST_HISTORY:
        return []
    usual = Usual.of(history)
    least = max(usual.run + 1, usual.run_by_chance(case.slot.length, len(history)))
    evidence = {"usual_run": usual.run, "usual_missing_share": usual.missing, "session_minutes": case.slot.length}
    return [
        case.incident(
            "feed_silence",
            places,
            f"no symbol of {case.calendar} has a bar for {len(places)} minutes; usual are at most {usual.run}",
            evidence,
        )
        for places in runs(~feed[case.slot.row].has_bar)
        if len(places) >= least
    ]


def _symbol_incidents(case: _Case, bars: SessionBars, feed: Mapping[int, Presence]) -> list[DataIncident]:
    past = [slot for slot in case.before if bars.presence(slot).has_bar.any()]
    complete = past[1:] if past and past[0].row == bars.first_row else past  # its history may begin within a session
    if len(complete) < LEAST_HISTORY:
        return []
    usual = replace(case, before=complete)
    return [*_missing_bars(usual, bars, feed), *_stale(usual, bars), *_split(replace(case, before=past), bars)]


def _missing_bars(case: _Case, bars: SessionBars, feed: Mapping[int, Presence]) -> list[DataIncident]:
    """Return the runs and shares of minutes that lack a bar of a symbol while others of its feed have one."""
    heard = feed[case.slot.row].has_bar
    lacking = ~bars.presence(case.slot).has_bar[heard]
    if not len(lacking):
        return []
    usual = Usual.of([Presence(each, bars.presence(each).has_bar[feed[each.row].has_bar]) for each in case.before])
    least = max(math.ceil(RUN_FACTOR * usual.run), usual.run + 1, usual.run_by_chance(len(lacking), len(case.before)))
    evidence = {"usual_run": usual.run, "usual_missing_share": usual.missing, "session_minutes": case.slot.length}
    places = np.flatnonzero(heard)
    found = []
    for run in runs(lacking):
        if len(run) >= least:
            sentence = f"{case.symbol} has no bar for {len(run)} minutes while others do; usual are at most {usual.run}"
            found.append(case.incident("missing_bars", places[run], sentence, evidence))
            lacking[run] = False
    compared = len(lacking) - sum(each.minutes for each in found)
    share = int(lacking.sum()) / max(compared, 1)
    few = 1.0 - share < LEAST_SHARE * (1.0 - usual.missing)
    many = share > MISSING_FACTOR * usual.much_missing + MISSING_MARGIN
    if compared >= LEAST_MINUTES and (few or many):
        sentence = f"{case.symbol} lacks {share:.0%} of its bars, in short runs; usual are {usual.missing:.0%}"
        found.append(case.incident("missing_bars", places[lacking], sentence, evidence | {"missing_share": share}))
    return found


def _stale(case: _Case, bars: SessionBars) -> list[DataIncident]:
    usual = sorted(longest(bars.standing_still(each)) for each in case.before)[-2]
    least = max(STALE_MINUTES, math.ceil(STALE_FACTOR * usual) + 1)
    return [
        case.incident(
            "stale_price",
            places,
            f"{case.symbol} repeats one price without volume for {len(places)} minutes; usual are at most {usual}",
            {"usual_run": usual, "price": bars.close_at(case.slot, int(places[0]))},
        )
        for places in runs(bars.standing_still(case.slot))
        if len(places) >= least
    ]


def _split(case: _Case, bars: SessionBars) -> list[DataIncident]:
    has_bar = bars.presence(case.slot).has_bar
    if not has_bar.any():
        return []
    chain = [bars.prices(slot) for slot in (*case.before, case.slot)]
    moves = [
        math.log(after.open / before.close) for before, after in pairwise(chain[:-1]) if before.close > 0.0 < after.open
    ]
    count, before, today = int(has_bar.sum()), chain[-2], chain[-1]
    usual = float(np.median([bars.turnover(slot, count) for slot in case.before]))
    turnover = bars.turnover(case.slot, count)
    split = possible_split(before.close, today.open, moves, turnover=turnover, usual_turnover=usual)
    if split is None:
        return []
    sentence = (
        f"{case.symbol} opens at {price_text(today.open)} after {price_text(before.close)}, the ratio of a split "
        f"{split.new}:{split.old}"
    )
    evidence = {
        "new": split.new,
        "old": split.old,
        "previous_close": before.close,
        "open": today.open,
        "sigmas": split.sigmas,
        "turnover": split.turnover,
    }
    return [case.incident("possible_split", np.flatnonzero(has_bar)[:1], sentence, evidence)]
