"""Replay of live outputs: the live lane's code runs again on the recorded bars and messages. No I/O.

A bar in progress is rebuilt from its messages, up to the one that triggered the score; a closed bar is read from
``ops.live_bars``. Features are computed from the bars that seeded the symbol's state and the bars closed since.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from surveillance_pipelines.clock import to_iso
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.market import Bar, Refusal
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.bar_builder import OpenBar, Print, bar_start_of
from surveillance_pipelines.engine.feature_history import BarInputs
from surveillance_pipelines.engine.scoring_rows import Candidate, input_hash
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.engine.snapshots import ServingState, dump_serving_state, load_history
from surveillance_pipelines.engine.symbol_state import SymbolState
from surveillance_pipelines.features.market import MarketContext
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.features.views import FeatureView
from surveillance_pipelines.hashing import sha256_bytes
from surveillance_pipelines.market.messages import decode_tick
from surveillance_pipelines.market.volume import VolumeTotal
from surveillance_pipelines.replay.comparison import CannotReplayError, Difference, StoredOutput

_FIELDS_FROM_MESSAGES: Final = ("open", "high", "low", "close", "volume", "trades", "first_event_time", "event_time",
                     "knowledge_time", "source_message_id")  # fmt: skip
"""Fields of a bar that follow from its messages; the fields about its peers do not."""


class DamagedInputError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """A stored input contradicts another record of it; ``difference`` describes the contradiction."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.field)
        self.difference = difference


@dataclass(frozen=True, slots=True)
class StoredSeed:
    """A row of ``ops.lane_seeds``."""

    history: bytes
    sha256: str
    calendar: str
    as_of_bar_start: int | None


@dataclass(frozen=True, slots=True)
class Message:
    """A scored message of one bar, as stored in the inbox, with the symbol and event time decoded at that time."""

    message_id: str
    body: str
    received_at: int
    event_time: int
    symbol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveInputs:
    """The inputs of one output of the live lane.

    Attributes:
        view: the row's feature view, computed by the running code.
        sessions: the trading sessions that the live lane had.
        seed: the bars of the last seed; None if 512 bars closed since then precede the row's UTC day.
        since: revision-0 bars closed since, before the row's bar, ascending.
        bar: the row's closed bar; None while it is in progress.
        messages: the bar's scored messages in order of processing; for a provisional row, up to its trigger.
        volume_before: the running total before the first message, if the feed sends running totals.
        cumulative: whether the feed sends running totals.
        window_length: bars per window of the models.
    """

    view: FeatureView
    sessions: SessionTable
    seed: StoredSeed | None
    since: tuple[Bar, ...]
    bar: Bar | None
    messages: tuple[Message, ...]
    volume_before: VolumeTotal | None = None
    cumulative: bool = False
    window_length: int = 1


def live_candidate(output: StoredOutput, inputs: LiveInputs) -> Candidate:
    """Return the bar with its feature vector as the live lane scored it.

    Raises:
        CannotReplayError: if an input is not on record.
        DamagedInputError: if an input contradicts another record of it.
    """
    state = _state_before(output.symbol, inputs)
    if output.bar_status == "final":
        if inputs.bar is None:
            raise CannotReplayError(
                f"expected the bar {_named(output.symbol, output.bar_start)} in ops.live_bars, found none"
            )
        cause, received = output.values.get("correlation_id"), output.values["t_received"]
        return _closed(state, inputs.bar, cause=cause, t_received=received)
    trigger = output.values["correlation_id"]
    if not inputs.messages or inputs.messages[-1].message_id != trigger:
        raise CannotReplayError(f"expected message {trigger} in ops.inbox, found none: it is no longer kept")
    peers = output.values.get("market_peers")
    if peers is None:
        raise CannotReplayError(
            "expected a provisional row of schema 1.1 or later, got an older one without the peers' return"
        )
    prints = list(_prints(state, inputs))
    for print_ in prints:
        state.add(print_)
    return state.peek(_recorded_market(output.values["market_return"], peers), prints[-1])


def compare_with_messages(symbol: str, bar: Bar, messages: Sequence[Message], inputs: LiveInputs) -> Difference | None:
    """Return the first field in which a closed bar differs from its messages, None if they agree."""
    if not messages:
        return None  # the messages are no longer kept
    state = _empty_state(symbol, inputs)
    prints = [_print(message, message.symbol, state if inputs.cumulative else None) for message in messages]
    built = OpenBar.start(prints[0])
    for print_ in prints[1:]:
        built.add(print_)
    for name in _FIELDS_FROM_MESSAGES:
        stored, rebuilt = getattr(bar, name), getattr(built, name)
        if stored != rebuilt:
            sources = [print_.message_id for print_ in prints if rebuilt in (print_.tick.price, print_.size)]
            named = f" (message {sources[0]} has the rebuilt value)" if len(sources) == 1 else ""
            return Difference(
                f"{name} of bar {_named(symbol, bar.bar_start)}",
                stored,
                rebuilt,
                f"ops.live_bars and the bar's messages in ops.inbox disagree{named}",
            )
    return None


def closed_hashes(symbol: str, inputs: LiveInputs) -> Iterator[tuple[Bar, str]]:
    """Yield each bar since the seed with the hash of its recomputed features, ascending."""
    state = _state_before(symbol, inputs, advanced=False)
    for bar in inputs.since:
        candidate = _closed(state, bar, cause=None, t_received=0)
        yield bar, input_hash(candidate.window if candidate.earlier else candidate.features)


def _state_before(symbol: str, inputs: LiveInputs, *, advanced: bool = True) -> SymbolState:
    """Return the symbol's state before the row's bar or, if not ``advanced``, right after its seed."""
    features, seeded = FeatureState(inputs.view), None
    if inputs.seed is not None:
        seeded = _history(inputs.seed, inputs.view)
        features.seed(*seeded)
    serving = dump_serving_state(ServingState(volume_total=inputs.volume_before))
    bars = inputs.since if advanced else ()
    seed = Seed(features=features.snapshot(), serving=serving, bars=bars, seeded=seeded)
    return SymbolState.from_seed(symbol, inputs.sessions, seed, inputs.view, window_length=inputs.window_length)


def _empty_state(symbol: str, inputs: LiveInputs) -> SymbolState:
    serving = dump_serving_state(ServingState(volume_total=inputs.volume_before))
    return SymbolState.from_seed(symbol, inputs.sessions, Seed(serving=serving), inputs.view)


def _history(seed: StoredSeed, view: FeatureView) -> BarInputs:
    digest = sha256_bytes(seed.history)
    if digest != seed.sha256:
        stored, rebuilt = f"sha256 {seed.sha256}", f"sha256 {digest}"
        raise DamagedInputError(Difference("history in ops.lane_seeds", stored, rebuilt, "the bytes are damaged"))
    try:
        starts, rows = load_history(seed.history, view.inputs)
    except ValueError as error:
        raise CannotReplayError(str(error)) from error
    return BarInputs(np.array(starts), np.array(rows))


def _closed(state: SymbolState, bar: Bar, *, cause: str | None, t_received: int) -> Candidate:
    state.open_bar = OpenBar(**{name: getattr(bar, name) for name in OpenBar.__slots__})
    _, candidate = state.close(
        _recorded_market(bar.market_return, bar.market_peers), cause=cause, t_received=t_received
    )
    return candidate


def _prints(state: SymbolState, inputs: LiveInputs) -> Iterator[Print]:
    for message in inputs.messages:
        yield _print(message, state.symbol, state if inputs.cumulative else None)


def _print(message: Message, symbol: str, totals: SymbolState | None) -> Print:
    """Return a message as the live lane processed it; ``totals`` resolves running totals."""
    tick = decode_tick(message.body, sent_at=None)
    where = f"body of message {message.message_id}"
    if isinstance(tick, Refusal):
        raise DamagedInputError(Difference(where, "a tick, when it was scored", f"{tick.code}: {tick.reason}"))
    if (tick.symbol, tick.event_time) != (symbol, message.event_time):
        then, now = (symbol, to_iso(message.event_time)), (tick.symbol, to_iso(tick.event_time))
        raise DamagedInputError(Difference(where, then, now, "the body no longer matches its columns in ops.inbox"))
    size = tick.volume if totals is None else totals.size_of(tick.volume, tick.event_time)
    return Print(tick, size, message.message_id, message.received_at)


class _RecordedMarket(MarketContext):
    """Returns the recorded values for every symbol and bar."""

    def __init__(self, market_return: float, peers: int) -> None:
        super().__init__()
        self._recorded: Final = (market_return, peers)

    def value(self, symbol: str, bar_start: int) -> tuple[float, int]:  # noqa: ARG002
        return self._recorded


def _recorded_market(market_return: float | None, peers: int) -> MarketContext:
    return _RecordedMarket(float("nan") if market_return is None else market_return, peers)


def _named(symbol: str, bar_start: int) -> str:
    return f"{symbol} {to_iso(bar_start_of(bar_start))[:16]}"
