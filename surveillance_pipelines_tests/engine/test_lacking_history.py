"""Symbols that began without history, because the lake could not be read, get it at their next bar."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Effects, Known, StateRow
from surveillance_pipelines.engine.engine import Engine, Swap
from surveillance_pipelines.engine.seed import LakeStatus, Seed
from surveillance_pipelines.engine.snapshots import SERVING_STATE, load_history, load_serving_state
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.features.views import CORE_V1, CORE_V2
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, SYMBOLS, merged, stream
from surveillance_pipelines_tests.engine.test_engine import feed, make_engine

BREAK = 10
"""Minute in which the lake can be read again."""


def day_before() -> list[Bar]:
    bars = feed(make_engine(), [stream(40, seed=3)]).bars
    return [replace(bar, bar_start=bar.bar_start - DAY_US, event_time=bar.event_time - DAY_US) for bar in bars]


HISTORY = day_before()


def history_of(symbol: str) -> Seed:
    return Seed(bars=tuple(bar for bar in HISTORY if bar.symbol == symbol))


class Lake:
    """A lake in a status, and what was asked of it."""

    def __init__(self, *, readable: bool) -> None:
        self.status: LakeStatus = "read" if readable else "unreadable"
        self.asked: list[str] = []

    def seed(self, symbol: str) -> Seed:
        self.asked.append(symbol)
        return history_of(symbol) if self.status == "read" else Seed(lake=self.status)


def serve(engine: Engine, batches: Iterable[Sequence[Received]], lake: Lake) -> Effects:
    parts = []
    for batch in batches:
        decoded = engine.read(batch)
        for _ in range(2):
            for symbol in engine.symbols_to_seed(decoded):
                engine.seed(symbol, lake.seed(symbol))
        parts.append(engine.process(decoded, Known()))
    return merged(parts)


def parted() -> tuple[list[Received], list[Received]]:
    messages = stream(30)
    place = next(i for i, one in enumerate(messages) if one.sent_at and f"T14:{30 + BREAK}" in one.body)
    return messages[:place], messages[place:]


def starts_in(effects: Effects, symbol: str) -> tuple[int, ...]:
    """Return the starts of the bars in a symbol's last feature snapshot."""
    rows = [row for row in effects.states if row.symbol == symbol and row.name != SERVING_STATE]
    return tuple(FeatureState.restore(rows[-1].state).history()[0].tolist())


def lacking(effects: Effects) -> dict[str, bool]:
    rows = {row.symbol: row.state for row in effects.states if row.name == SERVING_STATE}
    return {symbol: load_serving_state(state).lacks_history for symbol, state in rows.items()}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_history_is_added_at_the_first_bar_after_the_lake_can_be_read(size):
    before, after = parted()
    lake = Lake(readable=False)
    engine = make_engine()
    first = serve(engine, [before], lake)
    assert lacking(first) == dict.fromkeys(SYMBOLS, True)
    lake.status, lake.asked = "read", []
    second = serve(engine, [after[i : i + size] for i in range(0, len(after), size)], lake)
    assert sorted(lake.asked) == sorted(SYMBOLS), "once each"
    assert lacking(second) == dict.fromkeys(SYMBOLS, False)
    for symbol in SYMBOLS:
        own = [OPEN + minute * MINUTE for minute in range(BREAK)]
        assert starts_in(second, symbol)[-BREAK:] == tuple(own)
        assert starts_in(second, symbol)[:-BREAK] == tuple(bar.bar_start for bar in history_of(symbol).bars)
        assert second.seeds[0].as_of_bar_start == own[-1]


def test_lake_is_asked_only_at_the_beginning_of_a_bar_while_it_cannot_be_read():
    lake = Lake(readable=False)
    serve(make_engine(), [[message] for message in stream(5)], lake)
    assert {symbol: lake.asked.count(symbol) for symbol in SYMBOLS} == dict.fromkeys(SYMBOLS, 1 + 2 * 4)


def test_history_added_later_is_on_record_with_the_bars_as_they_were_served():
    before, after = parted()
    engine, lake = make_engine(), Lake(readable=False)
    first = serve(engine, [before], lake)
    lake.status = "read"
    late = serve(engine, [after], lake)
    served = [*first.bars, *late.bars]
    for seed in late.seeds:
        starts, rows = load_history(seed.history.packed(), CORE_V1.inputs)
        own = [bar for bar in served if bar.symbol == seed.symbol and bar.bar_start < OPEN + BREAK * MINUTE]
        bars = [*history_of(seed.symbol).bars, *own]
        assert starts.tolist() == [bar.bar_start for bar in bars]
        prices = [(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars]
        np.testing.assert_array_equal(rows[:, :5], prices)
        peers = CORE_V1.inputs.index("market_return")
        np.testing.assert_array_equal(rows[-BREAK:, peers], [bar.market_return for bar in own])


def test_restart_remembers_that_history_is_missing():
    before, after = parted()
    first = serve(make_engine(), [before], Lake(readable=False))
    states: dict[tuple[str, str], StateRow] = {(row.symbol, row.name): row for row in first.states}
    restarted, lake = make_engine(), Lake(readable=True)
    for symbol in SYMBOLS:
        bars = tuple(bar for bar in first.bars if bar.symbol == symbol)
        restarted.seed(symbol, Seed(states[symbol, "core_v1"].state, states[symbol, SERVING_STATE].state, bars))
    second = serve(restarted, [after], lake)
    assert sorted(lake.asked) == sorted(SYMBOLS)
    assert lacking(second) == dict.fromkeys(SYMBOLS, False)


def test_table_that_is_absent_during_the_repair_does_not_count_as_read():
    before, after = parted()
    engine, lake = make_engine(), Lake(readable=False)
    serve(engine, [before], lake)
    lake.status = "absent"
    assert lacking(serve(engine, [after[:60]], lake)) == dict.fromkeys(SYMBOLS, True)
    lake.status = "read"
    assert lacking(serve(engine, [after[60:]], lake)) == dict.fromkeys(SYMBOLS, False)


def test_symbols_of_a_queue_without_a_lake_lack_nothing():
    lake = Lake(readable=False)
    lake.status = "absent"
    effects = serve(make_engine(), [stream(10)], lake)
    assert lacking(effects) == dict.fromkeys(SYMBOLS, False)
    assert sorted(lake.asked) == sorted(SYMBOLS)


def test_nothing_is_seeded_again_while_the_lake_cannot_be_read():
    effects = serve(make_engine(), [[message] for message in stream(20)], Lake(readable=False))
    assert sorted(seed.symbol for seed in effects.seeds) == sorted(SYMBOLS)


class OtherView(WarmupRules):
    bundle_hash = "other"
    feature_view = CORE_V2.name


def test_symbol_that_began_while_new_models_loaded_gets_the_history_of_their_view():
    before, after = parted()
    engine, lake = make_engine(), Lake(readable=False)
    serve(engine, [before], lake)
    lake.status, lake.asked = "read", []
    serve(engine, [after[:60]], lake)
    assert sorted(lake.asked) == sorted(SYMBOLS), "the history of the first view"
    lake.asked = []
    engine.swap(Swap(OtherView(), {symbol: history_of(symbol) for symbol in SYMBOLS[1:]}), 0)
    late = serve(engine, [after[60:]], lake)
    assert lake.asked == [SYMBOLS[0]]
    assert {seed.feature_view for seed in late.seeds} == {CORE_V2.name}
    assert starts_in(late, SYMBOLS[0])[0] == HISTORY[0].bar_start


def test_states_that_a_change_of_view_left_unrecorded_are_recorded_in_parts():
    before, after = parted()
    engine, lake = make_engine(), Lake(readable=True)
    serve(engine, [before], lake)
    assert engine.record_states(2).is_empty()
    engine.swap(Swap(OtherView(), {symbol: history_of(symbol) for symbol in SYMBOLS}), 0)
    serve(engine, [after[:1]], lake)
    left = sorted(set(SYMBOLS) - {engine.read(after[:1])[0][1].symbol})  # type: ignore[union-attr]
    parts = [engine.record_states(1), engine.record_states(1)]
    assert [len(part.seeds) for part in parts] == [1, 1]
    assert sorted(seed.symbol for part in parts for seed in part.seeds) == left
    assert {row.name for part in parts for row in part.states} == {SERVING_STATE, CORE_V2.name}
    assert engine.record_states(1).is_empty()
