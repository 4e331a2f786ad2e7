"""The simulated database answers as PostgreSQL does: one script against both, with restarts, answers compared."""

from collections.abc import Mapping, Sequence

import pytest

from surveillance_pipelines.engine.effects import ClockRow, Known
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.runtime.ports import Store
from surveillance_pipelines.stores.database import Reconnector
from surveillance_pipelines.stores.delivery_store import PostgresDeliveryStore
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.lease import Lease, LeaseLostError, acquire, delivery_lease
from surveillance_pipelines.stores.live_store import Connections, PostgresStore
from surveillance_pipelines.stores.outbox import OutboxRow, outbox_rows
from surveillance_pipelines_tests.engine.market import MINUTE, OPEN, SYMBOLS, sessions
from surveillance_pipelines_tests.engine.test_engine import dirty_stream
from surveillance_pipelines_tests.simulation.database import QUEUE, Database, UniqueViolationError
from surveillance_pipelines_tests.simulation.scorer import TinyPredictor
from surveillance_pipelines_tests.simulation.side_channel import CHANNEL, MemoryDeliveryStore
from surveillance_pipelines_tests.simulation.store import MemoryStore
from surveillance_pipelines_tests.simulation.timeline import Timeline


@pytest.fixture
def stores(live_lane):
    """PostgreSQL and the simulated database, each under its first lease."""
    with live_lane.connect() as connection:
        held = acquire(connection, QUEUE, holder="test", seconds=600)
        database = Database(Timeline(0, limit_seconds=1.0))
        lease = database.acquire("test", 600)
        assert held is not None
        assert lease is not None
        lake = Lake(live_lane.endpoints.lake_url)
        yield (
            PostgresStore(
                Connections(*[Reconnector(lambda: connection)] * 5),
                lake,
                held,
                feature_view="core_v1",
                run_id=None,
            ),
            MemoryStore(database, lease, "core_v1"),
        )


def comparable(seeds: Mapping[str, Seed]) -> dict[str, str]:
    return {symbol: repr(seed) for symbol, seed in seeds.items()}


def fresh_engine(live_lane, store: Store) -> Engine:
    engine = Engine(engine_config(live_lane.settings, TinyPredictor()), TinyPredictor(), sessions(), SYMBOLS)
    for symbol, seed in store.served().items():
        engine.seed(symbol, seed)
    return engine


def test_both_databases_give_the_same_answers_to_a_run_with_restarts(live_lane, stores):
    messages = dirty_stream()
    batches = [messages[start : start + 90] for start in range(0, len(messages), 90)]
    engines = [fresh_engine(live_lane, store) for store in stores]
    for number, batch in enumerate(batches):
        if number % 4 == 3:
            engines = [fresh_engine(live_lane, store) for store in stores]
        answers = []
        for store, engine in zip(stores, engines, strict=True):
            known = store.record_received(number, batch, done=[number - 1])
            readings = engine.read(batch)
            history = store.history(engine.symbols_to_seed(readings))
            for symbol, seed in history.items():
                engine.seed(symbol, seed)
            effects = engine.process(readings, known)
            posted = outbox_rows(effects, "scores")
            store.commit(effects, posted, committed_at=OPEN + number, number=number + 1)
            store.mark_published(store.unpublished()[:7], published_at=OPEN)
            left = sorted(row.id for row in posted if row.id in {r.id for r in store.unpublished()[:100]})
            answers.append((known, comparable(history), comparable(store.served()), left[:5]))
        assert answers[0][:3] == answers[1][:3]
    last = batches[-1][-1]
    after = dict.fromkeys(SYMBOLS, OPEN + 200 * MINUTE)
    assert comparable(stores[0].history(after)) == comparable(stores[1].history(after))
    numbers = len(batches), len(batches) - 1
    known = [store.record_received(numbers[0], [last], done=[numbers[1]]) for store in stores]
    assert known[0] == known[1] != Known()


def test_both_databases_refuse_a_repeated_message_and_a_lost_lease(live_lane, stores):
    batch = dirty_stream()[:30]
    for store, violation in zip(stores, ("UniqueViolation", UniqueViolationError.__name__), strict=True):
        engine = fresh_engine(live_lane, store)
        readings = engine.read(batch)
        for symbol, seed in store.history(engine.symbols_to_seed(readings)).items():
            engine.seed(symbol, seed)
        effects = engine.process(readings, Known())
        store.commit(effects, [], committed_at=OPEN, number=1)
        before = comparable(store.served())
        with pytest.raises(Exception) as refused:  # noqa: PT011 (of either database)
            store.commit(effects, outbox_rows(effects, "scores"), committed_at=OPEN, number=2)
        assert type(refused.value).__name__ == violation
        assert (comparable(store.served()), list(store.unpublished())) == (before, [])
    live_lane.query("UPDATE ops.leases SET fencing = fencing + 1 RETURNING 1")
    row = stores[1].database.leases[QUEUE]
    assert row is not None
    row.fencing += 1
    for store in stores:
        with pytest.raises(LeaseLostError):
            store.renew()
        closed = fresh_engine(live_lane, store).apply_clock(ClockRow(OPEN + 9 * MINUTE, OPEN, ()))
        with pytest.raises(LeaseLostError):
            store.commit(closed, [], committed_at=1, number=2)


def test_lease_is_taken_over_when_it_has_run_out_and_not_during_a_transaction():
    timeline = Timeline(0, limit_seconds=1.0)
    database = Database(timeline)
    first = database.acquire("one", 10)
    assert first == Lease(QUEUE, "one", 1, 10)
    timeline.now = 9_999_999
    assert database.acquire("two", 10) is None
    timeline.now = 10_000_000
    assert first is not None
    with database.transaction(first):  # run out, but nobody took it: still held, and locked
        timeline.now = 30_000_000
        assert database.acquire("two", 10) is None
    assert database.acquire("two", 10) == Lease(QUEUE, "two", 2, 10)
    with pytest.raises(LeaseLostError):
        database.renew(first)


def test_both_databases_give_the_same_answers_to_a_delivery_run(live_lane):
    """Rows behind the cursor are recorded once, the cursor never moves back, a lost lease writes nothing."""
    database = Database(Timeline(0, limit_seconds=1.0))
    with live_lane.connect() as connection:
        held = acquire(connection, delivery_lease(CHANNEL), holder="test", seconds=600)
        lease = database.acquire("test", 600, delivery_lease(CHANNEL))
        assert held is not None
        assert lease is not None
        link = Reconnector(lambda: connection)
        stores = PostgresDeliveryStore(link, link, held, CHANNEL), MemoryDeliveryStore(database, lease)
        rows = [OutboxRow(f"r{number}", f"g{number % 2}", "anomaly", "{}") for number in range(8)]
        database.post(rows)
        for row in rows:
            connection.execute(
                "INSERT INTO ops.outbox (id, queue_url, group_id, row_type, body, created_at) "
                "VALUES (%s, %s, %s, %s, %s, now())",
                (row.id, QUEUE, row.group_id, row.row_type, row.body),
            )

        def left(after: int = 0, limit: int = 100) -> list[list[str]]:
            first = [store.undelivered(QUEUE, after=0, limit=1)[0].position for store in stores]
            return [
                [row.id for row in store.undelivered(QUEUE, after=start + after - 1 if after else 0, limit=limit)]
                for store, start in zip(stores, first, strict=True)
            ]

        def record(numbers: Sequence[int], cursor: int) -> None:
            for store, all_rows in zip(stores, everything, strict=True):
                chosen = [all_rows[number] for number in numbers]
                store.record(QUEUE, chosen, [None] * len(chosen), at=OPEN, cursor=all_rows[0].position - 1 + cursor)

        everything = [list(store.undelivered(QUEUE, after=0, limit=100)) for store in stores]
        for numbers, cursor in (((0, 1), 2), ((3, 5), 2), ((2,), 4), ((0,), 1)):
            record(numbers, cursor)
            answers = left()
            assert answers[0] == answers[1]
            answers = left(after=2, limit=2)
            assert answers[0] == answers[1]
        assert left()[0] == ["r4", "r6", "r7"]
        connection.execute("UPDATE ops.leases SET fencing = fencing + 1")
        database.leases[delivery_lease(CHANNEL)].fencing += 1
        for store, all_rows in zip(stores, everything, strict=True):
            with pytest.raises(LeaseLostError):
                store.record(QUEUE, [all_rows[4]], [None], at=OPEN, cursor=all_rows[4].position)
        assert left() == [["r4", "r6", "r7"]] * 2
