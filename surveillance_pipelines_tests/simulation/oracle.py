"""What a schedule should have come to, by two oracles that know nothing of its faults.

*Replay*: an engine that never stops takes the recorded inputs (messages in the order they were taken in, readings of
the event clock between them) and says which rows they cause. Every table and the outbox must equal it, row for row, and
so must the state that a further takeover would restore.

*Fault-free run*: the same producers, no fault. Which group the queue hands out first, and when the clock is read, may
differ from it, so what rests on those is left aside: all of a market whose clock closes bars, groups that the
dead-letter queue has reordered, and everywhere the peers' returns and the instants of receiving.
"""

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import fields, replace
from functools import cache
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any, Final

from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.contracts.outputs import IDENTITY_FREE, Anomaly, OutputRow
from surveillance_pipelines.engine.engine import Engine, Swap
from surveillance_pipelines.engine.event_clock import ClockReading
from surveillance_pipelines.engine.snapshots import ServingState, load_serving_state
from surveillance_pipelines.engine.symbol_state import SymbolState
from surveillance_pipelines.stores.lease import Lease
from surveillance_pipelines.stores.outbox import outbox_rows
from surveillance_pipelines_tests.simulation.database import Commit, Database
from surveillance_pipelines_tests.simulation.fifo import Stored
from surveillance_pipelines_tests.simulation.market import Market, session_table
from surveillance_pipelines_tests.simulation.scorer import TinyPredictor
from surveillance_pipelines_tests.simulation.store import MemoryStore
from surveillance_pipelines_tests.simulation.timeline import Timeline

SHELL_STAMPS: Final = frozenset({"t_computed", "t_committed", "t_published"})
_ROW_TIMING: Final = IDENTITY_FREE | {"input_hash", "market_return", "market_peers"}
_BAR_TIMING: Final = frozenset({"market_return", "market_peers", "knowledge_time"})
_STAMPS: Final = re.compile('"(' + "|".join(sorted(SHELL_STAMPS)) + ')":("[^"]*"|null),?')
_LEASE_SECONDS: Final = 1e9

Rows = dict[str, dict[Any, Any]]


def replay(market: Market, recorded: Database) -> tuple[Database, Engine]:
    """Return the tables and the engine of a run that takes the recorded inputs without ever stopping.

    What came between two readings of the clock is taken in at once: how inputs are cut must not matter.
    """
    database = Database(Timeline(0, limit_seconds=_LEASE_SECONDS), market.lake)
    lease = database.acquire("replay", _LEASE_SECONDS)
    assert lease is not None
    store, engine = MemoryStore(database, lease, TinyPredictor.feature_view), market.engine({})
    pieces = groupby(accumulate(recorded.commits, _in_force), key=lambda commit: (commit.clock, commit.bundle_hash))
    for number, ((clock, bundle_hash), commits) in enumerate(pieces, 1):
        if bundle_hash is not None:
            engine.swap(Swap(TinyPredictor(bundle_hash)), 0)
        if clock is not None:
            effects = engine.apply_clock(clock)
        else:
            messages = [message for commit in commits for message in commit.messages]
            readings = engine.read(messages)
            for _ in range(2):  # as the shell does
                for symbol, seed in store.history(engine.symbols_to_seed(readings)).items():
                    engine.seed(symbol, seed)
            effects = engine.process(readings, store.known(messages))
        store.commit(effects, outbox_rows(effects, market.publish), committed_at=0, number=number)
    return database, engine


def _in_force(before: Commit, commit: Commit) -> Commit:
    """Return a commit with the bundle that scored it: what it says itself, or what the one before had."""
    return commit if commit.bundle_hash is not None else replace(commit, bundle_hash=before.bundle_hash)


def replay_differences(market: Market, recorded: Database) -> list[str]:
    """Return how a schedule's rows differ from those that its recorded inputs cause; only stamps are left aside."""
    expected, engine = replay(market, recorded)
    differences = _differences("replay", _exact_rows(expected), _exact_rows(recorded))
    caused, posted = list(expected.outbox), list(recorded.outbox)
    if caused != posted and sorted(caused) == sorted(posted):
        differences.append("replay: the outbox is in another order than its causes")
    return differences or _restore_differences(engine, recorded)


def fault_free_differences(clean: Database, recorded: Database, overtaken: Iterable[str]) -> list[str]:
    """Return how a schedule's rows differ from those of a run without faults, where both must agree."""
    aside = frozenset(overtaken)
    return _differences("fault-free run", _timeless_rows(clean, aside), _timeless_rows(recorded, aside))


def unjust_outcomes(market: Market, recorded: Database, sent: Sequence[Stored], aside: Container[str]) -> list[str]:
    """Return how many good ticks a schedule ended as late or dead.

    A tick is good if a run accepts it that receives each message at the instant of its sending, and closes bars by the
    queue's clock at that instant. Bars can close later than there, never earlier.

    Args:
        market: what was sent.
        recorded: the tables of the schedule.
        sent: all messages in the order of sending.
        aside: groups that the queue has reordered, or hidden from the run.
    """
    wrong = {
        id_: outcome.outcome
        for id_, outcome in recorded.ledger.items()
        if outcome.outcome in ("late", "dead") and recorded.inbox[id_].group_id not in aside
    }
    if not wrong:
        return []
    prompt = _prompt_outcomes(market, sent)
    unjust = Counter(outcome for id_, outcome in wrong.items() if prompt.get(id_) == "scored")
    return [f"outcome: {count} good ticks ended as {name}" for name, count in sorted(unjust.items())]


def _prompt_outcomes(market: Market, sent: Sequence[Stored]) -> dict[str, str]:
    database = Database(Timeline(0, limit_seconds=_LEASE_SECONDS), market.lake)
    lease = database.acquire("prompt", _LEASE_SECONDS)
    assert lease is not None
    store, engine = MemoryStore(database, lease, TinyPredictor.feature_view), market.engine({})
    for number, stored in enumerate(sent, 1):
        message = stored.received(stored.sent_at)
        closed = engine.close_due(ClockReading(stored.sent_at), 0)
        store.commit(closed, [], committed_at=0, number=2 * number)
        readings = engine.read([message])
        for _ in range(2):
            for symbol, seed in store.history(engine.symbols_to_seed(readings)).items():
                engine.seed(symbol, seed)
        effects = engine.process(readings, store.known([message]))
        store.commit(effects, [], committed_at=0, number=2 * number + 1)
    return {id_: outcome.outcome for id_, outcome in database.ledger.items()}


def _restore_differences(engine: Engine, recorded: Database) -> list[str]:
    """Return the symbols whose lane, restored from the tables, is not the lane of an engine that never stopped."""
    store = MemoryStore(recorded, Lease("q", "nobody", 0, 0.0), TinyPredictor.feature_view)
    wrong: list[str] = []
    for symbol, seed in store.served().items():
        restored = SymbolState.from_seed(symbol, session_table(), seed)
        lasting = engine._symbols[symbol]
        if _lane_state(restored) != _lane_state(lasting):
            wrong.append(f"restore: {symbol} does not go on where it stood")
    return wrong


def _lane_state(lane: SymbolState) -> tuple[bytes, list[Any]]:
    return lane._features.snapshot(), [repr(bar) for bar in lane._recent.values()]


def _differences(oracle: str, expected: Rows, actual: Rows) -> list[str]:
    found: list[str] = []
    for table, rows in expected.items():
        lost, extra = rows.keys() - actual[table].keys(), actual[table].keys() - rows.keys()
        wrong = [key for key in rows.keys() & actual[table].keys() if rows[key] != actual[table][key]]
        if lost or extra or wrong:
            example = next((f": {rows[key]} became {actual[table][key]}" for key in sorted(wrong, key=repr)), "")
            found.append(f"{oracle}: {table}: {len(lost)} lost, {len(extra)} extra, {len(wrong)} wrong{example}")
    return found


def _exact_rows(database: Database) -> Rows:
    return {
        "ledger": database.ledger,
        "dead letters": database.dead_letters,
        "instruments": database.instruments,
        "bars": {key: _values(bar, frozenset()) for key, bar in database.live_bars.items()},
        "outputs": {id_: _values(row, SHELL_STAMPS) for id_, row in database.outputs.items()},
        "outbox": {id_: _STAMPS.sub("", posted.row.body) for id_, posted in database.outbox.items()},
        "state": {key: (row.as_of_bar_start, row.state) for key, row in database.feature_state.items()},
        "seeds": database.seeds,
    }


def _timeless_rows(database: Database, aside: frozenset[str]) -> Rows:
    groups = {message_id: message.group_id for message_id, message in database.inbox.items()}
    return {
        "ledger": {id_: (r.outcome, r.reason) for id_, r in database.ledger.items() if groups[id_] not in aside},
        "instruments": {symbol: row for symbol, row in database.instruments.items() if symbol not in aside},
        "bars": {key: _values(bar, _BAR_TIMING) for key, bar in database.live_bars.items() if bar.symbol not in aside},
        "outputs": {id_: _values(r, _ROW_TIMING) for id_, r in database.outputs.items() if r.symbol not in aside},
        "outbox": {id_: p.row.group_id for id_, p in database.outbox.items() if p.row.group_id not in aside},
        "state": {
            key: _timeless_state(load_serving_state(row.state))
            for key, row in database.feature_state.items()
            if row.symbol not in aside and row.name != TinyPredictor.feature_view
        },
    }


def _values(row: OutputRow | Bar, aside: frozenset[str]) -> tuple[Any, ...]:
    """Return the fields of a row without those left aside; NaN becomes None, so that it equals itself."""
    return tuple(None if value != value else value for value in _getter(type(row), aside)(row))


@cache
def _getter(row_type: type, aside: frozenset[str]) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(field.name for field in fields(row_type) if field.name not in aside))


def _timeless_state(state: ServingState) -> str:
    bar = None if state.open_bar is None else replace(state.open_bar, knowledge_time=0)
    incidents = {
        key: replace(each, last=_timeless_alert(each.last), peak=_timeless_alert(each.peak))
        for key, each in state.incidents.items()
    }
    return repr(replace(state, open_bar=bar, anchor=None, incidents=incidents))


def _timeless_alert(alert: Anomaly) -> Anomaly:
    values: dict[str, Any] = dict.fromkeys(_ROW_TIMING)
    return replace(alert, **values)
