"""A restart with windows of several bars changes no row, whatever the lake has by then."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from surveillance_pipelines.clock import DAY_US
from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.contracts.outputs import Score
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Known
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.engine.snapshots import load_history
from surveillance_pipelines.features.views import CORE_V1, HISTORY_BARS
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines.stores.database import Reconnector
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.lake_history import SINGLE_REQUESTS
from surveillance_pipelines.stores.lease import acquire, release
from surveillance_pipelines.stores.live_store import IDLE_RENEWALS, Connections, PostgresStore
from surveillance_pipelines.stores.open_table import OpenTable
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, SYMBOLS, received, sessions, stream, ticks
from surveillance_pipelines_tests.engine.test_engine import feed, make_engine
from surveillance_pipelines_tests.engine.test_feature_history import WideRules, event_time, frame_of
from surveillance_pipelines_tests.features.bars import symbol_bars
from surveillance_pipelines_tests.live_lane_fixtures import LiveLane

GAP = range(30, 40)
"""Minutes of the first day without ticks of AAPL."""


def two_days() -> list[Received]:
    """Return 90 minutes of one day, with a gap, and 30 minutes of the next one."""
    first = [tick for tick in ticks(90) if tick.symbol != "AAPL" or (tick.event_time - OPEN) // MINUTE not in GAP]
    second = [replace(tick, event_time=tick.event_time + DAY_US) for tick in ticks(30, seed=8)]
    return [received(tick, i) for i, tick in enumerate([*first, *second])]


def lake_of(lane: LiveLane) -> Lake:
    return Lake(lane.endpoints.lake_url, lane.endpoints.lake_storage_options)


def land(lane: LiveLane, bars: Sequence[Bar]) -> None:
    frame = frame_of([replace(bar, source="file", market_peers=0) for bar in bars])
    lake_of(lane).write_days("bars_1m", frame, days=frame["date"].unique().to_list())


def land_the_day_before(lane: LiveLane) -> None:
    bars = feed(make_engine(), [stream(40)]).bars
    land(lane, [replace(bar, bar_start=bar.bar_start - DAY_US, event_time=bar.event_time - DAY_US) for bar in bars])


def fill_the_gap(lane: LiveLane) -> None:
    starts = [OPEN + minute * MINUTE for minute in GAP]
    land(lane, [Bar("AAPL", at, 150.0, 151.0, 149.0, 150.5, 9e4, 9, at, at, 0, "final", at, "", 0.0, 0, "file")
                for at in starts])  # fmt: skip


def serve(lane: LiveLane, messages: Sequence[Received], rules: WarmupRules) -> list[Score]:
    """Serve messages as one run does, and return its score rows."""
    engine = Engine(engine_config(lane.settings, rules), rules, sessions(), SYMBOLS)
    scores: list[Score] = []
    with lane.connect() as connection:
        lease = acquire(connection, "q", holder="test", seconds=60)
        assert lease is not None
        store = PostgresStore(
            Connections(*[Reconnector(lambda: connection)] * 5), lake_of(lane), lease,
            feature_view=rules.feature_view, window_length=rules.window_length,
        )  # fmt: skip
        for symbol, seed in store.served().items():
            engine.seed(symbol, seed)
        for begin in range(0, len(messages), 30):
            batch = engine.read(messages[begin : begin + 30])
            wanted = engine.symbols_to_seed(batch)
            for symbol, seed in store.history(wanted, window_length=engine.window_length).items():
                engine.seed(symbol, seed)
            effects = engine.process(batch, Known())
            effects.computed_at = messages[begin].received_at
            stamped = effects.stamped(committed_at=messages[begin].received_at)
            store.commit(stamped, [], committed_at=OPEN, number=begin // 30 + 1)
            scores += effects.scores
        release(connection, lease)
    return scores


@pytest.fixture
def expected(live_lane: LiveLane) -> list[str]:
    """Return the input hashes of a run without restart, and leave a database that has never served."""
    land_the_day_before(live_lane)
    hashes = [row.input_hash for row in serve(live_lane, two_days(), WideRules())]
    assert live_lane.column("SELECT count(*) FROM ops.lane_seeds") == [3]
    live_lane.query(
        "WITH gone AS (DELETE FROM ops.live_bars), states AS (DELETE FROM ops.feature_state), "
        "ledger AS (DELETE FROM ops.ledger), inbox AS (DELETE FROM ops.inbox), outputs AS "
        "(DELETE FROM surveillance.predictions), alerts AS (DELETE FROM surveillance.anomalies), signals AS "
        "(DELETE FROM surveillance.signals) DELETE FROM ops.lane_seeds RETURNING 1"
    )
    return hashes


@pytest.mark.parametrize(
    "restarts",
    [(0, 50), (0, 75), (1, 0), (1, 5), (1, 25)],
    ids=["before_a_snapshot", "after_a_snapshot", "at_midnight", "after_midnight", "within_the_next_day"],
)
def test_restart_keeps_windows_and_features_though_the_lake_has_filled_a_gap(live_lane, expected, restarts):
    day, minute = restarts
    messages = two_days()
    place = next(i for i, one in enumerate(messages) if event_time(one) >= OPEN + day * DAY_US + minute * MINUTE)
    before = serve(live_lane, messages[:place], WideRules())
    fill_the_gap(live_lane)
    middle = serve(live_lane, messages[place : place + 40], WideRules())
    after = serve(live_lane, messages[place + 40 :], WideRules())
    assert [row.input_hash for row in [*before, *middle, *after]] == expected
    assert live_lane.column("SELECT count(*) FROM ops.lane_seeds") == [3]


def test_features_rebuilt_for_want_of_a_snapshot_are_seeded_once(live_lane):
    messages = two_days()
    serve(live_lane, messages[:200], WideRules())
    live_lane.query("UPDATE ops.feature_state SET state = 'SPFS0' WHERE feature_view = 'core_v1' RETURNING 1")
    serve(live_lane, messages[200:260], WideRules())
    fill_the_gap(live_lane)
    serve(live_lane, messages[260:320], WideRules())
    assert live_lane.column("SELECT count(*) FROM ops.lane_seeds") == [6]


def test_longer_windows_after_a_restart_are_those_of_models_that_always_had_them(live_lane, expected):
    messages = two_days()
    place = next(i for i, one in enumerate(messages) if event_time(one) >= OPEN + DAY_US + 5 * MINUTE)
    serve(live_lane, messages[:place], WarmupRules())
    fill_the_gap(live_lane)
    after = serve(live_lane, messages[place:], WideRules())
    assert [row.input_hash for row in after] == expected[-len(after) :]
    assert live_lane.column("SELECT count(*) FROM ops.lane_seeds") == [3]


def test_histories_of_further_symbols_are_dropped_when_none_follows(live_lane, monkeypatch):
    reads, read = [], OpenTable.read
    monkeypatch.setattr(OpenTable, "read", lambda table, **how: reads.append(how["columns"]) or read(table, **how))
    bars = pl.concat([symbol_bars(symbol, seed, 1500, gaps=0.0) for seed, symbol in enumerate(SYMBOLS)])
    bars = bars.with_columns(date=pl.col("bar_start").dt.date())
    lake_of(live_lane).write_days("bars_1m", bars, days=bars["date"].unique().to_list())
    later = int(bars["bar_start"].dt.timestamp("us").max()) + DAY_US  # type: ignore[arg-type]
    first, second, third = SYMBOLS
    with live_lane.connect() as connection:
        lease = acquire(connection, "q", holder="test", seconds=60)
        assert lease is not None
        links = Connections(*[Reconnector(lambda: connection)] * 5)
        store = PostgresStore(links, lake_of(live_lane), lease, feature_view="core_v1")
        for _ in range(SINGLE_REQUESTS + 1):
            store.history({first: later})
        for symbol, dropped in ((second, False), (third, True)):
            for _ in range(IDLE_RENEWALS - 1 + dropped):
                store.renew()
            reads.clear()
            history = store.history({symbol: later})[symbol].history
            assert history is not None
            assert len(history.starts) == HISTORY_BARS
            assert (len(reads) > 0) == dropped
        release(connection, lease)


def test_symbols_that_began_while_the_lake_was_damaged_get_its_bars_after_the_repair(live_lane):
    land_the_day_before(live_lane)
    log = Path(live_lane.endpoints.lake_url) / "bars_1m" / "_delta_log"
    log.rename(log.with_name("saved"))
    messages = stream(20)
    serve(live_lane, messages[:100], WarmupRules())
    log.with_name("saved").rename(log)
    serve(live_lane, messages[100:], WarmupRules())
    rows = live_lane.query("SELECT symbol, history FROM ops.lane_seeds ORDER BY id")
    starts = [(symbol, load_history(bytes(history), CORE_V1.inputs)[0]) for symbol, history in rows]
    assert sorted(symbol for symbol, _ in starts[:3]) == sorted(symbol for symbol, _ in starts[3:]) == sorted(SYMBOLS)
    assert all(len(own) == 0 for _, own in starts[:3])
    assert all(own[0] == OPEN - DAY_US and own[-1] >= OPEN for _, own in starts[3:])
