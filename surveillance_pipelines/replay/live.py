"""One output of the live lane from its recorded inputs: the lane's own code over the bars and messages it had. Pure.

A bar in progress is built again from its messages, up to the one that asked; a closed bar is its row of
``ops.live_bars``. Features come from the bars that the lane was seeded with and those it has closed since.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from surveillance_pipelines.clock import to_iso
from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.market import Bar, Refusal
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.bar_builder import OpenBar, Print, bar_start_of
from surveillance_pipelines.engine.scoring_rows import Candidate, input_hash
from surveillance_pipelines.engine.snapshots import ServingState, dump_serving_state, load_history
from surveillance_pipelines.engine.symbol_state import Seed, SymbolState
from surveillance_pipelines.engine.windows import recent_rows
from surveillance_pipelines.features.market import MarketContext
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.features.views import FeatureView
from surveillance_pipelines.hashing import sha256_bytes
from surveillance_pipelines.market.messages import decode_tick
from surveillance_pipelines.market.volume import VolumeTotal
from surveillance_pipelines.replay.comparison import CannotReplayError, Difference, StoredOutput

_WITNESSED: Final = ("open", "high", "low", "close", "volume", "trades", "first_event_time", "event_time",
                     "knowledge_time", "source_message_id")  # fmt: skip
"""What a bar's messages say of it; what its peers had done they do not know."""


class DamagedInputError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """A stored input contradicts another record of it; ``difference`` names it."""

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
    """A scored message of one bar, as the inbox has it, with what it was understood as then."""

    message_id: str
    body: str
    received_at: int
    event_time: int
    symbol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveInputs:
    """What one output of the live lane was made of.

    Attributes:
        view: the row's feature view, by the code that runs here.
        sessions: as the lane had them.
        seed: the bars it was seeded with last; None where 512 bars since precede the row's UTC day.
        since: revision-0 bars closed since, before the row's bar, ascending.
        bar: the row's own bar as it closed; None while it is open.
        messages: its scored messages in the order they were taken, up to the one that asked.
        volume_before: the running total before the first of them, where the feed sends those.
        cumulative: it does.
        window_length: bars that the models read at once.
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
    """Return the bar with its feature vector as the lane scored it.

    Raises:
        CannotReplayError: if an input is not on record.
        DamagedInputError: if one contradicts another record of it.
    """
    lane = _lane_before(output.symbol, inputs)
    if output.bar_status == "final":
        if inputs.bar is None:
            raise CannotReplayError(
                f"expected the bar {_named(output.symbol, output.bar_start)} in ops.live_bars, found none"
            )
        cause, received = output.values.get("correlation_id"), output.values["t_received"]
        return _closed(lane, inputs.bar, cause=cause, t_received=received)
    trigger = output.values["correlation_id"]
    if not inputs.messages or inputs.messages[-1].message_id != trigger:
        raise CannotReplayError(f"expected message {trigger} in ops.inbox, found none: it is no longer kept")
    peers = output.values.get("market_peers")
    if peers is None:
        raise CannotReplayError(
            "this row of a bar in progress is older than schema 1.1: what peers had done is unknown"
        )
    prints = list(_prints(lane, inputs))
    for print_ in prints:
        lane.add(print_)
    return lane.peek(_recorded_market(output.values["market_return"], peers), prints[-1])


def witness(symbol: str, bar: Bar, messages: Sequence[Message], inputs: LiveInputs) -> Difference | None:
    """Return the first field in which a closed bar is not what its messages give, None where they agree."""
    if not messages:
        return None  # no longer kept
    lane = _empty_lane(symbol, inputs)
    prints = [_print(message, message.symbol, lane if inputs.cumulative else None) for message in messages]
    built = OpenBar.start(prints[0])
    for print_ in prints[1:]:
        built.add(print_)
    for name in _WITNESSED:
        stored, told = getattr(bar, name), getattr(built, name)
        if stored != told:
            says = [print_.message_id for print_ in prints if told in (print_.tick.price, print_.size)]
            named = f" (message {says[0]} says so)" if len(says) == 1 else ""
            return Difference(
                f"{name} of bar {_named(symbol, bar.bar_start)}",
                stored,
                told,
                f"ops.live_bars and the bar's messages in ops.inbox disagree{named}",
            )
    return None


def closed_hashes(symbol: str, inputs: LiveInputs) -> Iterator[tuple[Bar, str]]:
    """Yield each bar since the seed with the hash of the features that it gives, ascending."""
    lane = _lane_before(symbol, inputs, advanced=False)
    for bar in inputs.since:
        candidate = _closed(lane, bar, cause=None, t_received=0)
        yield bar, input_hash(candidate.window if candidate.earlier else candidate.features)


def _lane_before(symbol: str, inputs: LiveInputs, *, advanced: bool = True) -> SymbolState:
    """Return the lane as it stood before the row's bar; not ``advanced``, as it stood at its seed."""
    state, earlier = FeatureState(inputs.view), list[Any]()
    if inputs.seed is not None:
        starts, rows = _history(inputs.seed, inputs.view)
        state.seed(starts, rows)
        earlier = recent_rows(inputs.view, starts, rows, inputs.window_length - 1)
    serving = dump_serving_state(ServingState(volume_total=inputs.volume_before))
    bars = inputs.since if advanced else ()
    seed = Seed(features=state.snapshot(), serving=serving, bars=bars, rows=tuple(earlier))
    return SymbolState.from_seed(symbol, inputs.sessions, seed, inputs.view, window_length=inputs.window_length)


def _empty_lane(symbol: str, inputs: LiveInputs) -> SymbolState:
    serving = dump_serving_state(ServingState(volume_total=inputs.volume_before))
    return SymbolState.from_seed(symbol, inputs.sessions, Seed(serving=serving), inputs.view)


def _history(seed: StoredSeed, view: FeatureView) -> tuple[Any, Any]:
    found = sha256_bytes(seed.history)
    if found != seed.sha256:
        raise DamagedInputError(
            Difference("history in ops.lane_seeds", f"sha256 {seed.sha256}", f"sha256 {found}", "the bytes are damaged")
        )
    try:
        starts, rows = load_history(seed.history, view.inputs)
    except ValueError as error:
        raise CannotReplayError(str(error)) from error
    return np.array(starts), np.array(rows)


def _closed(lane: SymbolState, bar: Bar, *, cause: str | None, t_received: int) -> Candidate:
    lane.open_bar = OpenBar(**{name: getattr(bar, name) for name in OpenBar.__slots__})
    _, candidate = lane.close(_recorded_market(bar.market_return, bar.market_peers), cause=cause, t_received=t_received)
    return candidate


def _prints(lane: SymbolState, inputs: LiveInputs) -> Iterator[Print]:
    for message in inputs.messages:
        yield _print(message, lane.symbol, lane if inputs.cumulative else None)


def _print(message: Message, symbol: str, totals: SymbolState | None) -> Print:
    """Return a message as its lane took it; ``totals`` resolves running totals."""
    tick = decode_tick(message.body, received_at=message.received_at)
    where = f"body of message {message.message_id}"
    if isinstance(tick, Refusal):
        raise DamagedInputError(Difference(where, "a tick, when it was scored", f"{tick.code}: {tick.reason}"))
    if (tick.symbol, tick.event_time) != (symbol, message.event_time):
        then, now = (symbol, to_iso(message.event_time)), (tick.symbol, to_iso(tick.event_time))
        raise DamagedInputError(Difference(where, then, now, "the body no longer says what ops.inbox noted of it"))
    size = tick.volume if totals is None else totals.size_of(tick.volume, tick.event_time)
    return Print(tick, size, message.message_id, message.received_at)


class _RecordedMarket(MarketContext):
    """Answers what was recorded, whatever is asked."""

    def __init__(self, market_return: float, peers: int) -> None:
        super().__init__()
        self._recorded: Final = (market_return, peers)

    def value(self, symbol: str, bar_start: int) -> tuple[float, int]:  # noqa: ARG002
        return self._recorded


def _recorded_market(market_return: float | None, peers: int) -> MarketContext:
    return _RecordedMarket(float("nan") if market_return is None else market_return, peers)


def _named(symbol: str, bar_start: int) -> str:
    return f"{symbol} {to_iso(bar_start_of(bar_start))[:16]}"
