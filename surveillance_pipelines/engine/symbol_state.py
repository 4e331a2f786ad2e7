"""One symbol in the live core: its features, its bar in progress, its recent bars, alerts and pace of signals.

A lane changes only through ``size_of``, ``add``, ``close`` and ``revise``: functions of the messages taken so far and
of the peers' returns that the caller passes in.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.clock import utc_date
from surveillance_pipelines.contracts.market import Bar, BarStatus
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.bar_builder import OpenBar, Print, bar_start_of, revise
from surveillance_pipelines.engine.decisions import PRIMARY, DecisionKey, DecisionState
from surveillance_pipelines.engine.effects import LaneSeed, StateRow
from surveillance_pipelines.engine.event_clock import Anchor
from surveillance_pipelines.engine.partial_bars import volume_to_score
from surveillance_pipelines.engine.scoring_rows import Candidate
from surveillance_pipelines.engine.snapshots import (
    SERVING_STATE,
    ServingState,
    dump_history,
    dump_serving_state,
    load_serving_state,
)
from surveillance_pipelines.engine.windows import recent_rows
from surveillance_pipelines.features.market import MarketContext
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.features.views import CORE_V1, FeatureView
from surveillance_pipelines.market.volume import VolumeTotal, size_of_total

REVISABLE_BARS: Final = 16
"""Closed bars kept to be revised by late ticks; a later tick revises its bar when ``bars_1m`` is filled."""

SNAPSHOT_BARS: Final = 64
"""The feature state, 55 kB, is saved at every so many bars; in between, ``ops.live_bars`` has what a restart adds."""

MARKET_MINUTES: Final = 64
"""Returns of so many bars give a restarted engine the market context it had."""


@dataclass(frozen=True, slots=True)
class Seed:
    """What a lane starts from: a snapshot and the bars since, or history.

    Attributes:
        features: ``FeatureState.snapshot`` bytes, None without one.
        serving: serving state bytes, None for a symbol that this queue has not served.
        bars: revision-0 bars after the snapshot (all of the history where there is none), ascending.
        revisable: the latest revision of the last closed bars, ascending.
        rows: feature rows of the bars before ``bars``, oldest first, where there is a snapshot and models read windows.
    """

    features: bytes | None = None
    serving: bytes | None = None
    bars: tuple[Bar, ...] = ()
    revisable: tuple[Bar, ...] = ()
    rows: tuple[npt.NDArray[np.float64], ...] = ()


class SymbolState:
    """The live state of one symbol."""

    def __init__(self, symbol: str, sessions: SessionTable, features: FeatureState, *, window_length: int = 1) -> None:
        self.symbol: Final = symbol
        self.anchor: Anchor | None = None
        self.open_bar: OpenBar | None = None
        self._snapshot: StateRow | None = None  # taken, not yet handed over
        self._seeds: list[LaneSeed] = []  # likewise
        self._missed: tuple[Bar, ...] = ()  # to be taken in before the tick that comes after them
        self._returns_before: list[tuple[int, float]] = []  # of bars closed here before features were last seeded
        self._sessions = sessions.for_symbol(symbol)
        self._features = features
        self._recent: OrderedDict[int, Bar] = OrderedDict()
        self._volume_total: VolumeTotal | None = None
        self._closed = 0
        self._decisions: dict[DecisionKey, DecisionState] = {PRIMARY: DecisionState()}
        self._earlier: deque[npt.NDArray[np.float64]] = deque(maxlen=window_length - 1)  # feature rows of final bars

    @classmethod
    def from_seed(
        cls,
        symbol: str,
        sessions: SessionTable,
        seed: Seed,
        view: FeatureView = CORE_V1,
        *,
        window_length: int = 1,
    ) -> "SymbolState":
        """Return a state that continues where the seed ends.

        Args:
            symbol: instrument.
            sessions: of every calendar.
            seed: a snapshot and the bars since, or history.
            view: the features of a symbol without a snapshot.
            window_length: bars that the models read at once.
        """
        if seed.features is None:
            lane = cls(symbol, sessions, FeatureState(view), window_length=window_length)
            lane._seed_features({bar.bar_start: lane._inputs(bar) for bar in seed.bars})
        else:
            lane = cls(symbol, sessions, FeatureState.restore(seed.features), window_length=window_length)
            lane._earlier.extend(seed.rows)
            for bar in seed.bars:
                lane._earlier.append(lane._features.advance(bar.bar_start, lane._inputs(bar)))
        lane._recent.update((bar.bar_start, bar) for bar in seed.revisable[-REVISABLE_BARS:])
        if seed.serving is not None:
            lane._resume(load_serving_state(seed.serving))
        else:
            lane._take_snapshot()
        return lane

    @property
    def last_closed(self) -> int | None:
        """Start of the last closed bar."""
        return self._features.last_bar_start

    def size_of(self, volume: float, event_time: int) -> float:
        """Return the size of a tick whose feed sends running totals of the day."""
        session_id, _, _ = self._sessions.position(event_time)
        step = size_of_total(self._volume_total, volume, session_id=session_id, event_time=event_time)
        self._volume_total = step.state
        return step.size

    def is_late(self, event_time: int) -> bool:
        """Say whether the bar of an event time has already closed."""
        start = bar_start_of(event_time)
        if self.open_bar is not None:
            return start < self.open_bar.bar_start
        return self.last_closed is not None and start <= self.last_closed

    def closes_before(self, event_time: int) -> bool:
        """Say whether a tick of this event time ends the bar in progress."""
        return self.open_bar is not None and bar_start_of(event_time) > self.open_bar.bar_start

    @property
    def newest(self) -> int | None:
        """Start of the bar in progress, or of the last closed one where there is none."""
        return self.last_closed if self.open_bar is None else self.open_bar.bar_start

    def is_session_missed(self, newest: int | None, event_time: int) -> bool:
        """Say whether a whole session lies between a bar, this lane's newest then, and a tick."""
        return newest is not None and self._sessions.row_of(event_time) - self._sessions.row_of(newest) > 1

    def catch_up(self, seed: Seed) -> None:
        """Keep what other sources know of the time that this lane is about to miss, until its tick comes.

        The bars that it served itself stay as they were served.
        """
        self._missed = seed.bars

    def decisions(self, key: DecisionKey) -> DecisionState:
        """Return what a tenant and strategy remember of this symbol."""
        return self._decisions.setdefault(key, DecisionState())

    def change_view(self, view: FeatureView, seed: Seed, *, window_length: int = 1) -> None:
        """Compute another view's features, or longer windows, from the next bar on.

        Args:
            view: the new view.
            seed: the history that it needs, up to any bar; this state holds the bars since.
            window_length: bars that the models read at once from now on.
        """
        bars: dict[int, Sequence[float] | npt.NDArray[np.float64]] = {b.bar_start: self._inputs(b) for b in seed.bars}
        starts, inputs = self._features.history()
        bars |= dict(zip(starts.tolist(), inputs, strict=True))
        self._returns_before = [(start, step) for start, step in self.served_returns() if math.isfinite(step)]
        self._closed = 0
        self._features = FeatureState(view)
        self._earlier = deque(maxlen=window_length - 1)
        self._seed_features(bars)
        self._take_snapshot()

    def add(self, print_: Print) -> None:
        """Take a tick into the bar in progress, or start one; after a missed session, with what is known of that."""
        if self.open_bar is None:
            if self._missed and self.is_session_missed(self.last_closed, print_.tick.event_time):
                self._take_in_missed(before=bar_start_of(print_.tick.event_time))
            self.open_bar = OpenBar.start(print_)
        else:
            self.open_bar.add(print_)
        anchor = print_.anchor
        self.anchor = anchor if self.anchor is None else max(self.anchor, anchor)

    def peek(self, market: MarketContext, print_: Print) -> Candidate:
        """Return the bar in progress as it would be scored now; nothing changes."""
        bar = self._bar("provisional", market)
        volume = volume_to_score(bar.volume, self._features.usual_volume(bar.bar_start))
        features = self._features.peek(bar.bar_start, self._inputs(replace(bar, volume=volume)))
        return self._candidate(bar, features, cause=print_.message_id, t_received=print_.received_at)

    def close(self, market: MarketContext, *, cause: str | None, t_received: int) -> tuple[Bar, Candidate]:
        """Close the bar in progress and advance the features by it.

        Args:
            market: the peers' returns as known now.
            cause: the message that closes it, None for the event clock.
            t_received: when that message came, or the clock was read.
        """
        bar = self._bar("final", market)
        features = self._features.advance(bar.bar_start, self._inputs(bar))
        market.update(self.symbol, bar.bar_start, self._features.last_log_return)
        self.open_bar = None
        self._remember(bar)
        self._closed += 1
        if self._closed % SNAPSHOT_BARS == 0:
            self._take_snapshot()
        if self._closed >= MARKET_MINUTES:
            self._returns_before.clear()
        candidate = self._candidate(bar, features, cause=cause or bar.source_message_id, t_received=t_received)
        self._earlier.append(features)
        return bar, candidate

    def revise(self, late: Print) -> Bar | None:
        """Return the next revision of the closed bar that a late tick belongs to, None if it is no longer at hand."""
        bar = self._recent.get(bar_start_of(late.tick.event_time))
        if bar is None:
            return None
        revised = revise(bar, late)
        self._recent[bar.bar_start] = revised
        return revised

    def served_returns(self) -> list[tuple[int, float]]:
        """Return ``(bar start, log return)`` of the newest bars closed here; seeded history is not among them."""
        since = self._features.recent_returns(min(self._closed, MARKET_MINUTES))
        return [*self._returns_before, *since][-MARKET_MINUTES:]

    def take_state_rows(self) -> list[StateRow]:
        """Return the snapshots to store now: the serving state, and that of the features if one was taken."""
        snapshot, self._snapshot = self._snapshot, None
        return [self._serving_row()] if snapshot is None else [snapshot, self._serving_row()]

    def take_seeds(self) -> list[LaneSeed]:
        """Return the histories that the features were seeded from since the last call, oldest first."""
        seeds, self._seeds = self._seeds, []
        return seeds

    def _serving_row(self) -> StateRow:
        primary = self._decisions[PRIMARY]
        state = ServingState(
            open_bar=self.open_bar,
            alerts=primary.alerts.kinds,
            last_signal=primary.gate.last_bar_start,
            others=tuple(
                (*key, found.alerts.kinds, found.gate.last_bar_start)
                for key, found in sorted(self._decisions.items())
                if key != PRIMARY
            ),
            volume_total=self._volume_total,
            anchor=self.anchor,
            closed=self._closed,
            returns_before=tuple(self._returns_before),
        )
        return self._state_row(SERVING_STATE, dump_serving_state(state))

    def _resume(self, state: ServingState) -> None:
        self.open_bar = state.open_bar
        self._decisions = {PRIMARY: DecisionState.of(state.alerts, state.last_signal)} | {
            (tenant, strategy): DecisionState.of(alerts, last) for tenant, strategy, alerts, last in state.others
        }
        self.anchor = state.anchor
        self._volume_total = state.volume_total
        self._closed = state.closed
        self._returns_before = list(state.returns_before)

    def _take_in_missed(self, *, before: int) -> None:
        starts, inputs = self._features.history()
        bars = {bar.bar_start: self._inputs(bar) for bar in self._missed if bar.bar_start < before}
        bars |= dict(zip(starts.tolist(), inputs, strict=True))
        if len(bars) > len(starts):
            self._returns_before = [(start, step) for start, step in self.served_returns() if math.isfinite(step)]
            self._seed_features(bars)
            self._closed = 0
            self._take_snapshot()

    def _seed_features(self, inputs: Mapping[int, Sequence[float] | npt.NDArray[np.float64]]) -> None:
        starts = np.array(sorted(inputs), dtype=np.int64)
        view = self._features.view
        rows = np.array([inputs[start] for start in starts.tolist()]).reshape(len(starts), len(view.inputs))
        if len(starts):
            self._features.seed(starts, rows)
            self._earlier.clear()
            self._earlier.extend(recent_rows(view, starts, rows, self._earlier.maxlen or 0))
        history = dump_history(starts, rows, view.inputs)
        self._seeds.append(LaneSeed(self.symbol, view.name, self._sessions.calendar, self.last_closed, history))

    def _bar(self, status: BarStatus, market: MarketContext) -> Bar:
        bar = self.open_bar
        if bar is None:
            raise RuntimeError(f"expected a bar in progress of {self.symbol}, was none")
        market_return, peers = market.value(self.symbol, bar.bar_start)
        return bar.to_bar(status, market_return=market_return, market_peers=peers)

    def _inputs(self, bar: Bar) -> tuple[float, ...]:
        session_id, minute, length = self._sessions.position(bar.bar_start)
        return (
            bar.open, bar.high, bar.low, bar.close, bar.volume, session_id, minute, length, bar.market_return,
            bar.market_peers,
        )  # fmt: skip

    def _remember(self, bar: Bar) -> None:
        self._recent[bar.bar_start] = bar
        while len(self._recent) > REVISABLE_BARS:
            self._recent.popitem(last=False)

    def _take_snapshot(self) -> None:
        self._snapshot = self._state_row(self._features.view.name, self._features.snapshot())

    def _state_row(self, name: str, state: bytes) -> StateRow:
        last = self.last_closed
        return StateRow(self.symbol, name, last, utc_date(last or 0), state)

    def _rows_before(self, features: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
        """Return the feature rows before a bar's own, NaN for bars before the symbol's first."""
        length = self._earlier.maxlen or 0
        if length == 0:
            return ()
        missing = np.full_like(features, np.nan)
        return (*(missing for _ in range(length - len(self._earlier))), *self._earlier)

    def _candidate(self, bar: Bar, features: npt.NDArray[np.float64], *, cause: str, t_received: int) -> Candidate:
        provisional = bar.bar_status == "provisional"
        return Candidate(
            symbol=bar.symbol,
            bar_start=bar.bar_start,
            bar_status=bar.bar_status,
            event_time=bar.event_time,
            knowledge_time=bar.knowledge_time,
            source=bar.source,
            source_message_id=bar.source_message_id,
            price=bar.close,
            volume=bar.volume,
            features=features,
            earlier=self._rows_before(features),
            fallback_used=not self._sessions.covers(bar.bar_start),
            trigger_message_id=cause if provisional else None,
            correlation_id=cause,
            t_received=t_received,
            market_return=bar.market_return if provisional and math.isfinite(bar.market_return) else None,
            market_peers=bar.market_peers if provisional else None,
        )
