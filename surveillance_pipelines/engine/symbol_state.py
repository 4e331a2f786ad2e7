"""The live state of one symbol: features, bar in progress, recent bars, alerts and last signals.

Once seeded, the state changes through ``size_of``, ``add``, ``close`` and ``revise``. It depends only on the messages
processed so far and on the peers' returns that the caller passes in.
"""

import math
from collections import OrderedDict, deque
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.clock import utc_date
from surveillance_pipelines.contracts.market import Bar, BarStatus
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.bar_builder import OpenBar, Print, bar_start_of, revise
from surveillance_pipelines.engine.decisions import PRIMARY, DecisionKey, DecisionState, open_incidents
from surveillance_pipelines.engine.effects import LaneSeed, StateRow
from surveillance_pipelines.engine.event_clock import Anchor
from surveillance_pipelines.engine.feature_history import BarInputs, recent_rows, with_missed
from surveillance_pipelines.engine.provisional_volume import volume_to_score
from surveillance_pipelines.engine.scoring_rows import Candidate
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.engine.snapshots import (
    SERVING_STATE,
    History,
    ServingState,
    dump_serving_state,
    load_serving_state,
)
from surveillance_pipelines.features import kernel
from surveillance_pipelines.features.market import MarketContext
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.features.views import CORE_V1, FeatureView
from surveillance_pipelines.market.volume import VolumeTotal, size_of_total

REVISABLE_BARS: Final = 16
"""Closed bars kept for revision by late ticks; a still later tick revises its bar when ``bars_1m`` is filled."""

SNAPSHOT_BARS: Final = 64
"""Bars between two snapshots of the feature state (55 kB); a restart adds the bars since from ``ops.live_bars``."""

MARKET_MINUTES: Final = 64
"""Bars of which the returns are kept, to restore the market context after a restart."""


class SymbolState:
    """The live state of one symbol."""

    def __init__(self, symbol: str, sessions: SessionTable, features: FeatureState, *, window_length: int = 1) -> None:
        self.symbol: Final = symbol
        self.anchor: Anchor | None = None
        self.open_bar: OpenBar | None = None
        self.groups: Final[set[str]] = set()  # message groups of the ticks of the bar in progress
        self._snapshot: StateRow | None = None  # not yet returned by pop_state_rows
        self._seeds: list[LaneSeed] = []  # not yet returned by pop_seeds
        self._missed: Seed | None = None  # added to the features before the next tick after them
        self._lacks_history = False  # because the lake could not be read
        self._returns_before: list[tuple[int, float]] = []  # of bars closed here before the features were last seeded
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
        """Return a state that continues from a seed.

        Args:
            symbol: the instrument.
            sessions: trading sessions of every calendar.
            seed: a snapshot and the bars since, or history.
            view: the feature view of a symbol without a snapshot.
            window_length: bars per window of the models.
        """
        if seed.features is None:
            state = cls(symbol, sessions, FeatureState(view), window_length=window_length)
            state._seed_features(state._inputs_of(seed))
        else:
            state = cls(symbol, sessions, FeatureState.restore(seed.features), window_length=window_length)
            state._earlier.extend(state._served_rows(seed))
            for bar in seed.bars:
                state._earlier.append(state._features.advance(bar.bar_start, state._inputs(bar)))
        state._recent.update((bar.bar_start, bar) for bar in seed.revisable[-REVISABLE_BARS:])
        if seed.serving is not None:
            state._resume(load_serving_state(seed.serving))
        if seed.features is None or seed.lake == "unreadable":
            state._lacks_history = seed.lake == "unreadable"
        if seed.serving is None or seed.features is None:
            state._take_snapshot()  # with the seed on record, so that a restart needs no other history
        return state

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
        """Return whether the bar of an event time has already closed."""
        start = bar_start_of(event_time)
        if self.open_bar is not None:
            return start < self.open_bar.bar_start
        return self.last_closed is not None and start <= self.last_closed

    def closes_before(self, event_time: int) -> bool:
        """Return whether a tick of this event time closes the bar in progress."""
        return self.open_bar is not None and bar_start_of(event_time) > self.open_bar.bar_start

    @property
    def newest(self) -> int | None:
        """Start of the bar in progress or, without one, of the last closed bar."""
        return self.last_closed if self.open_bar is None else self.open_bar.bar_start

    def needs_bars(self, newest: int | None, event_time: int) -> bool:
        """Return whether a tick begins a bar before which bars of other sources must be added by ``catch_up``.

        They are those of a missed session or, if the lake could not be read when this state began, the whole history.

        Args:
            newest: start of the bar before the tick's.
            event_time: of the tick.
        """
        if newest is None or bar_start_of(event_time) <= newest:
            return False
        has_them = self._missed is not None and self._missed.lake == "read"
        return (self._lacks_history and not has_them) or self._is_session_missed(newest, event_time)

    def _is_session_missed(self, start: int, event_time: int) -> bool:
        """Return whether a whole session lies between a bar and a tick."""
        return self._sessions.row_of(event_time) - self._sessions.row_of(start) > 1

    def catch_up(self, seed: Seed) -> None:
        """Store bars that other sources have; the next tick for which ``needs_bars`` holds adds them.

        Bars served by this queue keep their served values.
        """
        self._missed = seed

    def decisions(self, key: DecisionKey) -> DecisionState:
        """Return the decision state of a tenant and strategy."""
        return self._decisions.setdefault(key, DecisionState())

    def change_view(self, view: FeatureView, seed: Seed, market: MarketContext, *, window_length: int = 1) -> None:
        """Compute another view's features, or longer windows, from the next bar on.

        Args:
            view: the new view.
            seed: the history that it needs, up to any bar, with the view's centre of the peers' returns; this state
                holds the bars since.
            market: the peers' returns of the last bars, with the view's centre.
            window_length: bars per window of the new models.
        """
        own, old = BarInputs(*self._features.history()), self._features.view
        self._returns_before = [(start, step) for start, step in self.served_returns() if math.isfinite(step)]
        self._closed = 0
        self._lacks_history, self._missed = seed.lake == "unreadable", None
        self._features = FeatureState(view)
        self._earlier = deque(maxlen=window_length - 1)
        bars = self._inputs_of(seed)
        if view.market_centre != old.market_centre:
            own = self._with_centre_of(own.after(bars), market)
        self._seed_features(BarInputs.of(bars.by_start() | own.by_start(), view))
        self._take_snapshot()

    def shorten_window(self, window_length: int) -> None:
        """Keep only the feature rows that shorter windows need; the features themselves are unchanged."""
        self._earlier = deque(self._earlier, maxlen=window_length - 1)

    def add(self, print_: Print) -> None:
        """Add a tick to the bar in progress, or start one; add the bars of ``catch_up`` first if they are needed."""
        if self.open_bar is None:
            last, missed, event_time = self.last_closed, self._missed, print_.tick.event_time
            if missed and last is not None:
                repaired = self._lacks_history and missed.lake == "read"
                if repaired or self._is_session_missed(last, event_time):
                    self._add_missed_bars(missed, before=bar_start_of(event_time))
            self.open_bar = OpenBar.start(print_)
        else:
            self.open_bar.add(print_)

    def observe(self, anchor: Anchor, group_id: str) -> None:
        """Record when a tick of the bar in progress was sent, and in which message group."""
        self.anchor = anchor if self.anchor is None else max(self.anchor, anchor)
        self.groups.add(group_id)

    def peek(self, market: MarketContext, print_: Print) -> Candidate:
        """Return the bar in progress for scoring, without changing the state."""
        bar = self._bar("provisional", market)
        volume = volume_to_score(bar.volume, self._features.usual_volume(bar.bar_start))
        features = self._features.peek(bar.bar_start, self._inputs(replace(bar, volume=volume)))
        return self._candidate(bar, features, cause=print_.message_id, t_received=print_.received_at)

    def close(self, market: MarketContext, *, cause: str | None, t_received: int) -> tuple[Bar, Candidate]:
        """Close the bar in progress and advance the features by it.

        Args:
            market: the peers' returns known now.
            cause: the message that closes it, None for the event clock.
            t_received: when that message was received, or the clock was read.
        """
        bar = self._bar("final", market)
        features = self._features.advance(bar.bar_start, self._inputs(bar))
        market.update(self.symbol, bar.bar_start, self._features.last_log_return)
        self.open_bar = None
        self.groups.clear()
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
        """Return the next revision of the closed bar of a late tick, None if that bar is no longer kept."""
        bar = self._recent.get(bar_start_of(late.tick.event_time))
        if bar is None:
            return None
        revised = revise(bar, late)
        self._recent[bar.bar_start] = revised
        return revised

    def served_returns(self) -> list[tuple[int, float]]:
        """Return ``(bar start, log return)`` of the newest bars closed here, without seeded history."""
        since = self._features.recent_returns(min(self._closed, MARKET_MINUTES))
        return [*self._returns_before, *since][-MARKET_MINUTES:]

    def pop_state_rows(self) -> list[StateRow]:
        """Return the snapshots to store: the serving state, and a new snapshot of the features if there is one.

        The bars of ``catch_up`` are dropped: they were for the messages before.
        """
        snapshot, self._snapshot = self._snapshot, None
        self._missed = None
        return [self._serving_row()] if snapshot is None else [snapshot, self._serving_row()]

    def pop_seeds(self) -> list[LaneSeed]:
        """Return the histories from which the features were seeded since the last call, oldest first."""
        seeds, self._seeds = self._seeds, []
        return seeds

    def _serving_row(self) -> StateRow:
        primary = self._decisions[PRIMARY]
        state = ServingState(
            open_bar=self.open_bar,
            alerts=primary.alerts.kinds,
            last_signal=primary.gate.last_bar_start,
            others=tuple(
                (*key, decisions.alerts.kinds, decisions.gate.last_bar_start)
                for key, decisions in sorted(self._decisions.items())
                if key != PRIMARY
            ),
            volume_total=self._volume_total,
            anchor=self.anchor,
            closed=self._closed,
            returns_before=tuple(self._returns_before),
            lacks_history=self._lacks_history,
            incidents=open_incidents(self._decisions),
        )
        return self._state_row(SERVING_STATE, dump_serving_state(state))

    def _resume(self, state: ServingState) -> None:
        self.open_bar = state.open_bar
        first = (*PRIMARY, state.alerts, state.last_signal)
        self._decisions = {
            (tenant, strategy): DecisionState.of(alerts, last, state.incidents.get((tenant, strategy)))
            for tenant, strategy, alerts, last in (first, *state.others)
        }
        self.anchor = state.anchor
        self._volume_total = state.volume_total
        self._closed, self._returns_before = state.closed, list(state.returns_before)
        self._lacks_history = state.lacks_history

    def _served_rows(self, seed: Seed) -> list[npt.NDArray[np.float64]]:
        """Return the feature rows of the last bars of a snapshot, computed from the bars that served as they did."""
        if not self._earlier.maxlen:
            return []
        bars = {} if seed.seeded is None else seed.seeded.by_start()
        bars |= {bar.bar_start: self._inputs(bar) for bar in seed.before}
        bars |= BarInputs(*self._features.history()).by_start()
        view = self._features.view
        return recent_rows(view, BarInputs.of(bars, view), self._earlier.maxlen)

    def _with_centre_of(self, bars: BarInputs, market: MarketContext) -> BarInputs:
        """Return bars with the market returns of another centre; those of bars that the context has dropped are NaN."""
        rows = bars.rows.copy()
        for row, start in zip(rows, bars.starts.tolist(), strict=True):
            row[kernel.PEERS_RETURN], row[kernel.PEERS] = market.value(self.symbol, start)
        return BarInputs(bars.starts, rows)

    def _add_missed_bars(self, seed: Seed, *, before: int) -> None:
        lacked, own = self._lacks_history, BarInputs(*self._features.history())
        if seed.lake != "absent":
            self._lacks_history = seed.lake == "unreadable"
        bars = with_missed(own, self._inputs_of(seed), before)
        if lacked or bars.keys() != own.by_start().keys():
            self._returns_before = [(start, step) for start, step in self.served_returns() if math.isfinite(step)]
            self._seed_features(BarInputs.of(bars, self._features.view))
            self._closed = 0
            self._take_snapshot()

    def _inputs_of(self, seed: Seed) -> BarInputs:
        """Return the history of a seed as inputs of the view's kernel."""
        view = self._features.view
        if seed.history is None:
            return BarInputs.of({bar.bar_start: self._inputs(bar) for bar in seed.bars}, view)
        history = seed.history.inputs(self._sessions, view.market_centre)
        if not seed.bars:
            return history
        return BarInputs.of(history.by_start() | {bar.bar_start: self._inputs(bar) for bar in seed.bars}, view)

    def _seed_features(self, bars: BarInputs) -> None:
        view = self._features.view
        if len(bars.starts):
            self._features.seed(*bars)
            self._earlier.clear()
            self._earlier.extend(recent_rows(view, bars, self._earlier.maxlen or 0))
        history = History(*bars, view.inputs)
        self._seeds.append(LaneSeed(self.symbol, view.name, self._sessions.calendar, self.last_closed, history))

    def _bar(self, status: BarStatus, market: MarketContext) -> Bar:
        bar = self.open_bar
        if bar is None:
            raise RuntimeError(f"expected a bar in progress of {self.symbol}, found none")
        market_return, peers = market.value(self.symbol, bar.bar_start)
        centre = self._features.view.market_centre
        return bar.to_bar(status, market_return=market_return, market_peers=peers, market_centre=centre)

    def _inputs(self, bar: Bar) -> tuple[float, ...]:
        session_id, minute, length = self._sessions.position(bar.bar_start)
        known = bar.market_centre == self._features.view.market_centre
        market_return, peers = (bar.market_return, bar.market_peers) if known else (math.nan, 0)
        return (
            bar.open, bar.high, bar.low, bar.close, bar.volume, session_id, minute, length, market_return, peers,
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
        """Return the feature rows of the bars before a bar, NaN for bars before the symbol's first."""
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
            calendar=self._sessions.calendar,
            fallback_used=not self._sessions.covers(bar.bar_start),
            trigger_message_id=cause if provisional else None,
            correlation_id=cause,
            t_received=t_received,
            market_return=bar.market_return if provisional and math.isfinite(bar.market_return) else None,
            market_peers=bar.market_peers if provisional else None,
        )
