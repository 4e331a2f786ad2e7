"""The live engine: turns messages and clock readings into effects. No I/O, no clock, no randomness.

Equal inputs in equal order give equal effects, however they are split into micro-batches: features are computed message
by message, all bars of a batch are scored in one call, and alerts and signals are then decided in message order.

If effects could not be committed, the engine is ahead of the database: discard it and seed a new one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import numpy as np

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.market import Refusal, Tick
from surveillance_pipelines.contracts.outputs import OutputRow
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.bar_builder import MINUTE_US, Print, bar_start_of
from surveillance_pipelines.engine.decisions import PRIMARY, decide
from surveillance_pipelines.engine.effects import (
    BundleRow,
    ClockRow,
    DeadLetter,
    Effects,
    InboxRow,
    Known,
    NewInstrument,
    Outcome,
    OutcomeName,
)
from surveillance_pipelines.engine.event_clock import Anchor, ClockReading, DueBars
from surveillance_pipelines.engine.live_market import LiveMarket
from surveillance_pipelines.engine.model_guard import ModelGuard
from surveillance_pipelines.engine.repeats import CONFLICT, conflict, is_same_content, kept_content
from surveillance_pipelines.engine.scoring_rows import Candidate, RowConfig, row_config, with_predictor
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.engine.symbol_state import SymbolState
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.market.messages import read_tick
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.settings import Settings

DecodedBatch = Sequence[tuple[Received, Tick | Refusal]]
"""A micro-batch in the order of receipt; each message with its decoded tick or the reason for its refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Settings of the engine. Durations are in microseconds.

    Attributes:
        rows: fields that all output rows of the first tenant and strategy share.
        other_rows: the same for further tenants and strategies; they decide on the same predictions.
        bar_close_grace: how long after its minute a bar waits for ticks before its symbol's event clock closes it.
        volume_is_cumulative: whether the feed sends running totals of the day.
        unknown_symbols: refuse them, or register them under ``default_calendar``.
        content_based_dedup: the queue derives dedup ids from bodies; they are ignored, as two equal bodies may be two
            trades.
        breaker_cooldown: how long a failed model is out of service.
        provisional_scores: also write score rows for bars in progress; only needed if they are published.
    """

    rows: RowConfig
    bar_close_grace: int
    other_rows: tuple[RowConfig, ...] = ()
    volume_is_cumulative: bool = False
    unknown_symbols: Literal["refuse", "register"] = "refuse"
    default_calendar: str = "XNYS"
    content_based_dedup: bool = False
    provisional_scores: bool = True
    breaker_cooldown: int = 30 * MICROSECONDS


def engine_config(
    settings: Settings, predictor: Predictor, *, run_id: str | None = None, content_based_dedup: bool = False
) -> EngineConfig:
    """Return the engine's settings from the platform's settings."""
    return EngineConfig(
        rows=row_config(settings, predictor, run_id=run_id),
        bar_close_grace=round(settings.bar_close_grace_seconds * MICROSECONDS),
        volume_is_cumulative=settings.sqs_volume_is_cumulative,
        unknown_symbols=settings.unknown_symbols,
        default_calendar=settings.default_calendar,
        content_based_dedup=content_based_dedup,
        provisional_scores=settings.published == "scores",
        breaker_cooldown=round(settings.model_breaker_seconds * MICROSECONDS),
    )


@dataclass(frozen=True)
class Swap:
    """A change of the serving models.

    Attributes:
        predictor: the new models, warmed up.
        seeds: symbol → history, if the new models read another feature view or longer windows.
    """

    predictor: Predictor
    seeds: Mapping[str, Seed] = field(default_factory=dict)


def needs_history(old: Predictor, new: Predictor) -> bool:
    """Return whether a change of models needs the symbols' history: another feature view, or longer windows."""
    return old.feature_view != new.feature_view or new.window_length > old.window_length


class Engine:
    """Builds bars, scores them and decides on alerts and signals for every symbol of one queue."""

    def __init__(
        self, config: EngineConfig, predictor: Predictor, sessions: SessionTable, instruments: Iterable[str]
    ) -> None:
        self._config = config
        self._predictor = predictor
        self._guard = ModelGuard(predictor, config.breaker_cooldown)
        self._sessions = sessions
        self._instruments = set(instruments)
        self._symbols: dict[str, SymbolState] = {}
        self._market = LiveMarket(VIEWS[predictor.feature_view].market_centre)
        self._due = DueBars()
        self._bundle_row: BundleRow | None = None  # added to the next effects
        self._unrecorded: dict[str, None] = {}  # symbols without a message since a change of view

    @property
    def window_length(self) -> int:
        """Bars per window of the serving models; seeds must hold the history of that many."""
        return self._predictor.window_length

    @property
    def feature_view(self) -> str:
        """Feature view of the serving models."""
        return self._predictor.feature_view

    def read(self, batch: Sequence[Received]) -> DecodedBatch:
        """Decode a micro-batch for ``symbols_to_seed`` and ``process``."""
        known = None if self._config.unknown_symbols == "register" else self._instruments
        return [(message, read_tick(message.body, sent_at=message.sent_at, instruments=known)) for message in batch]

    def symbols_to_seed(self, batch: DecodedBatch) -> dict[str, int]:
        """Return the symbols of a batch that need history, each with the event time that the history must reach.

        A symbol without a state needs history up to its first tick. A symbol whose state has missed a whole session, or
        began while the lake could not be read, needs it up to the last tick after that. Both can apply to one symbol:
        seed it, then call again.
        """
        wanted: dict[str, int] = {}
        newest: dict[str, int | None] = {}
        for _, tick in batch:
            if not isinstance(tick, Tick):
                continue
            state = self._symbols.get(tick.symbol)
            if state is None:
                wanted.setdefault(tick.symbol, tick.event_time)
                continue
            before = newest.setdefault(tick.symbol, state.newest)
            if state.needs_bars(before, tick.event_time):
                wanted[tick.symbol] = tick.event_time
            newest[tick.symbol] = max(before or 0, bar_start_of(tick.event_time))
        return wanted

    def seed(self, symbol: str, seed: Seed) -> None:
        """Create a symbol's state before its first message, or add bars that its state lacks."""
        if symbol in self._symbols:
            self._symbols[symbol].catch_up(seed)
            return
        view, length = VIEWS[self._predictor.feature_view], self._predictor.window_length
        state = SymbolState.from_seed(symbol, self._sessions, seed, view, window_length=length)
        self._symbols[symbol] = state
        self._market.seed(symbol, state.served_returns())
        self._schedule_close(state)

    def process(self, batch: DecodedBatch, known: Known) -> Effects:
        """Process a micro-batch in the order of receipt.

        Args:
            batch: decoded messages; every symbol in it must be seeded.
            known: the ids of the batch that already have a ledger row.
        """
        call = _EngineCall(known, max((message.received_at for message, _ in batch), default=0))
        for message, tick in batch:
            self._process_message(message, tick, call)
        return self._finish(call)

    def record_bundle(self, now_us: int) -> None:
        """Add the serving bundle to the next effects."""
        self._bundle_row = BundleRow(self._predictor.bundle_hash, self._predictor.feature_view, now_us)

    def swap(self, swap: Swap, now_us: int) -> None:
        """Predict with other models from the next message on; a new feature view continues from the same bar.

        Every symbol then has the windows that it would have if the new models had always served.
        """
        old, new = self._predictor, swap.predictor
        view, length, anew = VIEWS[new.feature_view], new.window_length, needs_history(old, new)
        self._market.change_centre(view.market_centre)
        for symbol, state in self._symbols.items():
            if anew:
                seed = swap.seeds.get(symbol, Seed(lake="unreadable"))  # new since these were read
                state.change_view(view, seed, self._market, window_length=length)
                self._unrecorded[symbol] = None
            elif length < old.window_length:
                state.shorten_window(length)
        self._predictor = new
        self._guard = ModelGuard(new, self._config.breaker_cooldown)
        self._config = replace(
            self._config,
            rows=with_predictor(self._config.rows, new),
            other_rows=tuple(with_predictor(rows, new) for rows in self._config.other_rows),
        )
        self.record_bundle(now_us)

    def record_states(self, limit: int) -> Effects:
        """Return states that a change of view left unrecorded, so that their histories are not kept in memory.

        Args:
            limit: maximum number of symbols; the next calls return the others.
        """
        call = _EngineCall(Known(), 0)
        call.touched = {symbol: self._symbols[symbol] for symbol in islice(self._unrecorded, limit)}
        return self._finish(call)

    def close_due(self, reading: ClockReading, now_us: int, *, limit: int | None = None) -> Effects:
        """Close the bars that are due at a reading of the queue's clock; empty effects if there are none.

        Args:
            reading: the queue's clock, and the groups whose bars must stay open.
            now_us: the host's clock, recorded with the bars.
            limit: maximum number of bars; the other ones stay open. None for all.
        """
        due = self._due.passed(
            reading.queue_clock, lambda symbol: not reading.blocked.isdisjoint(self._symbols[symbol].groups)
        )
        chosen = tuple(sorted(sorted(due, key=self._closing_order)[:limit]))
        return self.apply_clock(ClockRow(reading.queue_clock, now_us, chosen)) if chosen else Effects()

    def apply_clock(self, row: ClockRow) -> Effects:
        """Close the bars in progress of a clock row's symbols, ordered by minute, then symbol; a replay calls this."""
        call = _EngineCall(Known(), row.recorded_at)
        call.effects.clock_rows = [row]
        for symbol in sorted(row.symbols, key=self._closing_order):
            self._close(self._symbol(symbol), call, cause=None, t_received=row.recorded_at)
        return self._finish(call)

    def _closing_order(self, symbol: str) -> tuple[int, str]:
        """Return the sort key of bars that the clock closes: minute, then symbol."""
        return self._symbol(symbol).newest or 0, symbol

    def next_close(self) -> int | None:
        """Return the reading of the queue's clock at which the next bar is due; None without a bar in progress."""
        return self._due.earliest()

    def _process_message(self, message: Received, tick: Tick | Refusal, call: "_EngineCall") -> None:
        if not call.is_new(message):
            call.effects.redelivered.append(message.message_id)
            return
        dedup_id = None if self._config.content_based_dedup else message.dedup_id
        if dedup_id is not None and (first := call.claim(dedup_id, message.body)) is not None:
            if is_same_content(first, message.body):
                call.record(message, tick, dedup_id, "duplicate", "its dedup id was already taken in")
            else:  # the ledger keeps the id of the first message
                call.record(message, conflict(dedup_id), None, "dead", CONFLICT)
        elif isinstance(tick, Refusal):
            call.record(message, tick, dedup_id, "dead", tick.code)
        else:
            self._process_tick(message, tick, dedup_id, call)

    def _process_tick(self, message: Received, tick: Tick, dedup_id: str | None, call: "_EngineCall") -> None:
        self._register(tick.symbol, call)
        state = self._symbol(tick.symbol)
        call.touched[tick.symbol] = state
        size = state.size_of(tick.volume, tick.event_time) if self._config.volume_is_cumulative else tick.volume
        print_ = Print(tick, size, message.message_id, message.received_at)
        if state.is_late(tick.event_time):
            revised = state.revise(print_)
            call.effects.bars += [] if revised is None else [revised]
            reason = "its bar has closed" if revised is None else f"its bar has closed: revision {revised.revision}"
            call.record(message, tick, dedup_id, "late", reason)
            return
        if state.closes_before(tick.event_time):
            self._close(state, call, cause=message.message_id, t_received=message.received_at)
        state.add(print_)
        state.observe(Anchor(message.sent_at, tick.event_time), message.group_id)
        self._schedule_close(state)
        call.candidates.append((state, state.peek(self._market, print_)))
        call.record(message, tick, dedup_id, "scored")

    def _close(self, state: SymbolState, call: "_EngineCall", *, cause: str | None, t_received: int) -> None:
        bar, candidate = state.close(self._market, cause=cause, t_received=t_received)
        self._due.discard(state.symbol)
        call.touched[state.symbol] = state
        call.effects.bars.append(bar)
        call.candidates.append((state, candidate))

    def _finish(self, call: "_EngineCall") -> Effects:
        effects = call.effects
        if call.candidates:
            windowed = self._predictor.window_length > 1
            rows = [bar.window if windowed else bar.features for _, bar in call.candidates]
            predictions = self._guard.predict(np.stack(rows), call.now)
            excluded = bool(predictions.excluded)
            effects.scored = len(call.candidates)
            effects.fallbacks = sum(excluded or bar.fallback_used for _, bar in call.candidates)
            effects.breakers = self._guard.breakers.pop_events()
            for i, (state, bar) in enumerate(call.candidates):
                effects.outputs += self._decide(state, bar, predictions, i)
        for symbol, state in sorted(call.touched.items()):
            self._unrecorded.pop(symbol, None)
            effects.states += state.pop_state_rows()
            effects.seeds += state.pop_seeds()
        if self._bundle_row is not None and not effects.is_empty():
            effects.bundles, self._bundle_row = [self._bundle_row], None
        return effects

    def _decide(self, state: SymbolState, bar: Candidate, predictions: BundlePredictions, i: int) -> list[OutputRow]:
        """Return the output rows of one bar; the first tenant and strategy come first."""
        config, provisional = self._config, self._config.provisional_scores
        outputs = decide(predictions, i, bar, config.rows, state.decisions(PRIMARY), provisional_scores=provisional)
        for rows in config.other_rows:
            decisions = state.decisions((rows.tenant, rows.strategy))
            outputs += decide(predictions, i, bar, rows, decisions, provisional_scores=provisional)
        return outputs

    def _register(self, symbol: str, call: "_EngineCall") -> None:
        if symbol not in self._instruments:
            self._instruments.add(symbol)
            call.effects.instruments.append(NewInstrument(symbol, self._config.default_calendar))

    def _symbol(self, symbol: str) -> SymbolState:
        state = self._symbols.get(symbol)
        if state is None:
            raise RuntimeError(
                f"expected {symbol} to be seeded before its first message: call symbols_to_seed and seed"
            )
        return state

    def _schedule_close(self, state: SymbolState) -> None:
        """Set when the clock closes the bar in progress of a symbol."""
        bar, anchor = state.open_bar, state.anchor
        if bar is not None and anchor is not None:
            end = bar.bar_start + MINUTE_US + self._config.bar_close_grace
            self._due.set(state.symbol, anchor.queue_clock_at(end))


class _EngineCall:
    """The ids, bars and effects collected during one call of the engine."""

    def __init__(self, known: Known, now: int) -> None:
        self.now = now  # recorded with the input, so that a replay uses the same instant
        self.effects = Effects()
        self.candidates: list[tuple[SymbolState, Candidate]] = []
        self.touched: dict[str, SymbolState] = {}
        self._message_ids = set(known.message_ids)
        self._contents = dict(known.dedup_ids)

    def is_new(self, message: Received) -> bool:
        new = message.message_id not in self._message_ids
        self._message_ids.add(message.message_id)
        return new

    def claim(self, dedup_id: str, body: str) -> str | None:
        """Return the content of the first message with a deduplication id; None if this is the first.

        Without the stored content of the first, a message is taken for its repetition.
        """
        if dedup_id not in self._contents:
            self._contents[dedup_id] = kept_content(body)
            return None
        first = self._contents[dedup_id]
        return kept_content(body) if first is None else first

    def record(
        self,
        message: Received,
        tick: Tick | Refusal,
        dedup_id: str | None,
        outcome: OutcomeName,
        reason: str | None = None,
    ) -> None:
        event_time, symbol = (None, None) if isinstance(tick, Refusal) else (tick.event_time, tick.symbol)
        self.effects.inbox.append(InboxRow(message, event_time, symbol))
        self.effects.outcomes.append(Outcome(message.message_id, dedup_id, outcome, reason))
        if isinstance(tick, Refusal) and outcome == "dead":
            self.effects.dead_letters.append(
                DeadLetter(message.message_id, message.body, tick.code, tick.reason, message.received_at)
            )
