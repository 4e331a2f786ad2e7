"""The shell over a real database: what is known, what is seeded, what survives a crash between two steps."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import polars as pl
import psycopg
import pytest

from surveillance_pipelines.clock import DAY_US, ManualClock, to_datetime
from surveillance_pipelines.contracts.queue import Poll, Received, SendEntry
from surveillance_pipelines.engine.effects import ClockRow
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.engine.scoring_rows import input_hash, row_config
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines.runtime.meter import Meter
from surveillance_pipelines.runtime.micro_batches import CommitBatch
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.runtime.shell import Shell, ShellOptions, Step
from surveillance_pipelines.stores.database import Reconnector, is_outage
from surveillance_pipelines.stores.lake import Lake
from surveillance_pipelines.stores.lease import LeaseLostError, acquire
from surveillance_pipelines.stores.live_rows import read_live_bars
from surveillance_pipelines.stores.live_store import Connections, PostgresStore
from surveillance_pipelines.stores.open_table import OpenTable
from surveillance_pipelines.transports.sqs import QueueError
from surveillance_pipelines_tests.batch.test_scoring import bars_frame
from surveillance_pipelines_tests.engine.market import OPEN, SYMBOLS, received, sessions, stream, ticks
from surveillance_pipelines_tests.engine.test_engine import dirty_stream, feed, make_engine
from surveillance_pipelines_tests.live_lane_fixtures import without_stamps
from surveillance_pipelines_tests.runtime.inline_tasks import InlineTasks

HIDDEN_SECONDS = 1
VISIBILITY_SECONDS = 60


class ListQueue:
    """An input queue that hands over again what was not deleted, from the front, like one FIFO group."""

    def __init__(self, messages: Sequence[Received]) -> None:
        self.messages = list(messages)

    def poll(self, max_messages: int, *, wait_seconds: int, visibility_seconds: int) -> Poll:
        return Poll(self.messages[:max_messages], answered_at=OPEN)

    def delete(self, receipts: Sequence[str]) -> None:
        self.messages = [message for message in self.messages if message.receipt_handle not in receipts]

    def extend_visibility(self, receipts: Sequence[str], seconds: int) -> None:
        """Hide nothing: this queue always shows all."""


class Wire:
    """An output queue that remembers."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        self.sent += [str(entry.dedup_id) for entry in entries]
        return self.sent


class FlakyWire(Wire):
    """An output queue that refuses each symbol once, and takes what comes with it."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        failures = {i: "InternalError" for i, entry in enumerate(entries) if entry.group_id not in self.refused}
        self.refused |= {entry.group_id for entry in entries}
        super().send([entry for i, entry in enumerate(entries) if i not in failures])
        if failures:
            raise QueueError("send", "q", failures, len(entries))
        return self.sent


class RefusingWire(Wire):
    """An output queue that takes nothing."""

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        raise QueueError("send", "q", dict.fromkeys(range(len(entries)), "InternalError"), len(entries))


class TasksByHand(InlineTasks):
    """What recurs does so when the test says."""

    def __init__(self) -> None:
        self.recurring: dict[str, Callable[[], None]] = {}

    def every(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self.recurring[name] = action


class NoPromotion:
    """Models that stay as they are."""

    def claim(self) -> None:
        return None


WAITING = """
    SELECT count(*) FROM ops.outbox LEFT JOIN ops.outbox_deliveries AS delivered USING (position)
    WHERE delivered.position IS NULL
"""


class CrashError(Exception):
    """The process is gone."""


def _same(connection: psycopg.Connection) -> psycopg.Connection:
    return connection


@pytest.fixture
def make_shell(live_lane):
    """Return a function that starts a fresh shell, as a new process would, on the lane's database."""
    connections = []

    def make(inputs, outputs, after_step=lambda _: None, queue_url="q", clock=None, tasks=None) -> Shell:
        connections.append(live_lane.connect())
        connections[-1].execute("UPDATE ops.leases SET expires_at = clock_timestamp()")
        lease = acquire(connections[-1], queue_url, holder="test", seconds=60)
        assert lease is not None
        config = engine_config(live_lane.settings, WarmupRules(), run_id="run-1")
        config = replace(config, bar_close_grace=3650 * DAY_US)  # the clock closes nothing
        shell = Shell(
            inputs=inputs,
            outputs=outputs,
            store=PostgresStore(
                Connections(*[Reconnector(partial(_same, connections[-1]))] * 5),
                Lake(live_lane.endpoints.lake_url),
                lease,
                feature_view="core_v1",
            ),
            engine=Engine(config, WarmupRules(), sessions(), SYMBOLS),
            bundles=NoPromotion(),
            meter=Meter(),
            clock=clock or ManualClock(to_datetime(OPEN)),
            options=ShellOptions(10, HIDDEN_SECONDS, VISIBILITY_SECONDS, 0, "scores", 1.0),
            tasks=tasks or InlineTasks(),
            outages=Outages(ManualClock(to_datetime(OPEN)), is_outage=is_outage),
            after_step=after_step,
        )
        shell.start()
        return shell

    yield make
    for connection in connections:
        connection.close()


def drive(shell: Shell, inputs: ListQueue) -> None:
    while inputs.messages:
        shell.run_once(0)


def assert_in_order(live_lane, wire: Wire) -> None:
    """Every row was sent once, each symbol's in the order of their causes."""
    for symbol in SYMBOLS:
        caused = live_lane.column("SELECT id FROM ops.outbox WHERE group_id = %s ORDER BY position", symbol)
        assert [id_ for id_ in wire.sent if id_ in set(caused)] == caused
    assert len(wire.sent) == live_lane.column("SELECT count(*) FROM ops.outbox")[0]


def crash_at(step: Step, occurrence: int):
    seen: list[Step] = []

    def crash(done: Step) -> None:
        seen.append(done)
        if seen.count(step) == occurrence:
            raise CrashError

    return crash


def test_crashes_at_every_step_leave_the_effects_of_a_run_without_any(live_lane, make_shell):
    messages = dirty_stream()
    inputs, wire = ListQueue(messages), Wire()
    for i, step in enumerate(("receive", "load", "process", "commit", "publish", "mark", "delete") * 3):
        with pytest.raises(CrashError):
            drive(make_shell(inputs, wire, crash_at(step, 2 + i % 3)), inputs)
    drive(make_shell(inputs, wire), inputs)

    rows = row_config(live_lane.settings, WarmupRules())
    expected = without_stamps(feed(make_engine(rows=rows), [messages]))
    assert set(wire.sent) == {row.id for row in expected.outputs}
    outcomes = {name: expected.count(name) for name in ("scored", "late", "dead", "duplicate")}
    assert live_lane.outcomes() == outcomes
    anomalies = live_lane.query("SELECT id, input_hash, alert_status, score FROM surveillance.anomalies")
    assert sorted(anomalies) == sorted((a.id, a.input_hash, a.alert_status, a.score) for a in expected.anomalies)
    bars = live_lane.query("SELECT symbol, revision, close, volume, trades FROM ops.live_bars")
    assert sorted(bars) == sorted((b.symbol, b.revision, b.close, b.volume, b.trades) for b in expected.bars)


def test_heartbeat_keeps_the_lease_alive_and_shows_its_loss(live_lane, make_shell):
    tasks = TasksByHand()
    make_shell(ListQueue([]), Wire(), tasks=tasks)
    live_lane.query("UPDATE ops.leases SET expires_at = '-infinity' RETURNING 1")
    heartbeat = tasks.recurring["heartbeat"]
    heartbeat()
    assert live_lane.column("SELECT expires_at > clock_timestamp() FROM ops.leases") == [True]
    live_lane.query("UPDATE ops.leases SET fencing = fencing + 1 RETURNING 1")
    with pytest.raises(LeaseLostError):
        heartbeat()


def test_lease_is_renewed_while_a_run_loads_what_its_symbols_need(live_lane, make_shell, monkeypatch):
    tasks, recurring = TasksByHand(), []
    monkeypatch.setattr(PostgresStore, "served", lambda _: recurring.extend(tasks.recurring) or {})
    make_shell(ListQueue([]), Wire(), tasks=tasks)
    assert recurring == ["heartbeat"]


def test_repeated_dedup_id_of_an_earlier_batch_is_a_duplicate(live_lane, make_shell):
    first, second = stream(10)[:15], received(stream(10)[3].body, 900, dedup_id="d000003")
    inputs = ListQueue([*first, second])
    drive(make_shell(inputs, Wire()), inputs)
    assert live_lane.outcomes() == {"scored": 15, "duplicate": 1}


def test_text_that_postgresql_cannot_hold_is_kept_in_escapes(live_lane, make_shell):
    inputs = ListQueue([received("a\x00b\ud800", 0)])
    drive(make_shell(inputs, Wire()), inputs)
    assert live_lane.query("SELECT body, code FROM ops.dead_letters") == [("a\\u0000b\\ud800", "not_json")]


def test_symbol_new_to_the_queue_starts_from_the_lakes_history(live_lane, make_shell):
    history = bars_frame(feed(make_engine(), [stream(100, seed=3)]).bars)
    earlier = history.with_columns(
        *((history[name].dt.offset_by("-1d")).alias(name) for name in ("date", "bar_start", "event_time")),
        market_return=None,
        market_peers=None,
    ).cast(history.schema)
    lake = Lake(live_lane.endpoints.lake_url)
    lake.write_days("bars_1m", earlier, days=earlier["date"].unique().to_list())
    inputs = ListQueue(stream(5, seed=4))
    drive(make_shell(inputs, Wire()), inputs)

    with live_lane.connect() as connection:
        live = read_live_bars(connection, earlier["date"][0], history["date"][0])
    features = features_of_days(earlier.vstack(live), [history["date"][0]], sessions())
    batch = {input_hash(values) for values in features.select(CORE_V1.columns).to_numpy()}
    served = "SELECT body::jsonb->>'input_hash' FROM ops.outbox WHERE body::jsonb->>'bar_status' = 'final'"
    assert len(batch) == 3 * 4
    assert set(live_lane.column(served)) == batch


@pytest.mark.parametrize("closes_by_clock", [False, True])
@pytest.mark.parametrize("crash", [False, True])
def test_symbol_that_missed_a_session_goes_on_from_what_other_sources_know(
    live_lane, make_shell, closes_by_clock, crash
):
    days = [
        [replace(tick, event_time=tick.event_time + day * DAY_US) for tick in ticks(80, seed=5 + day)]
        for day in (-1, 0, 1)
    ]
    first, missed, last = ([received(tick, 10_000 * day + i) for i, tick in enumerate(days[day])] for day in range(3))
    lake = Lake(live_lane.endpoints.lake_url)
    vendor = bars_frame(feed(make_engine(), [missed]).bars).with_columns(source=pl.lit("yfinance"))
    vendor = vendor.with_columns(market_return=None, market_peers=None).cast(vendor.schema)
    inputs = ListQueue(first)
    shell = make_shell(inputs, Wire())
    drive(shell, inputs)
    if closes_by_clock:
        shell._commits.submit(CommitBatch(shell._engine.apply_clock(ClockRow(OPEN, OPEN, SYMBOLS))))
    lake.write_days("bars_1m", vendor, days=vendor["date"].unique().to_list())
    inputs.messages = last
    if crash:
        with pytest.raises(CrashError):
            drive(make_shell(inputs, Wire(), crash_at("delete", 3)), inputs)
    drive(make_shell(inputs, Wire()), inputs)

    with live_lane.connect() as connection:
        live = read_live_bars(connection, to_datetime(OPEN - DAY_US).date(), to_datetime(OPEN + DAY_US).date())
    features = features_of_days(vendor.vstack(live), [to_datetime(OPEN + DAY_US).date()], sessions())
    batch = {input_hash(values) for values in features.select(CORE_V1.columns).to_numpy()}
    served = "SELECT body::jsonb->>'input_hash' FROM ops.outbox WHERE body::jsonb->>'bar_status' = 'final'"
    assert len(batch) == 3 * 79
    assert set(live_lane.column(f"{served} AND body::jsonb->>'bar_start' > '2024-03-06'")) == batch


def test_leftover_messages_are_published_first(live_lane, make_shell):
    inputs, wire = ListQueue(stream(5)), Wire()
    with pytest.raises(CrashError):
        drive(make_shell(inputs, wire, crash_at("commit", 1)), inputs)
    assert wire.sent == []
    make_shell(inputs, wire)
    assert_in_order(live_lane, wire)
    assert live_lane.column(WAITING) == [0]


class SlowWire(Wire):
    """An output queue that needs a second for each call."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        self.clock.advance(1)
        return super().send(entries)


def test_rows_of_a_long_publication_are_stamped_as_they_are_sent(live_lane, make_shell, monkeypatch):
    monkeypatch.setattr("surveillance_pipelines.runtime.shell.ROWS_PER_STAMP", 4)
    inputs, clock = ListQueue(stream(5)), ManualClock(to_datetime(OPEN))
    with pytest.raises(CrashError):
        drive(make_shell(inputs, Wire(), crash_at("commit", 1)), inputs)
    make_shell(inputs, SlowWire(clock), clock=clock)
    stamps = live_lane.column("SELECT delivered_at FROM ops.outbox_deliveries ORDER BY position")
    assert len(stamps) == live_lane.column("SELECT count(*) FROM ops.outbox")[0]
    assert len(stamps) > 2 * 4
    for i, stamp in enumerate(stamps):
        earlier_calls = (stamp - to_datetime(OPEN)).total_seconds()
        assert i // 4 <= earlier_calls <= i, "after the calls of earlier rows, and before its own"


def test_call_that_is_accepted_in_part_is_repeated_and_reorders_no_symbol(live_lane, make_shell):
    inputs, wire = ListQueue(stream(5)), FlakyWire()
    drive(make_shell(inputs, wire), inputs)
    assert wire.refused == set(SYMBOLS)
    assert_in_order(live_lane, wire)


def test_entry_that_is_refused_again_and_again_ends_the_run_and_is_sent_by_the_next(live_lane, make_shell):
    inputs = ListQueue(stream(2))
    with pytest.raises(QueueError, match="InternalError"):
        drive(make_shell(inputs, RefusingWire()), inputs)
    wire = Wire()
    drive(make_shell(inputs, wire), inputs)
    assert_in_order(live_lane, wire)


def test_feature_snapshot_of_other_code_is_rebuilt_from_bars(live_lane, make_shell, monkeypatch):
    """The lake is read for all symbols together, not once for each."""
    messages, reads, read = stream(90), [], OpenTable.read
    monkeypatch.setattr(OpenTable, "read", lambda table, **how: reads.append(how["days"]) or read(table, **how))
    other = bars_frame(feed(make_engine(), [stream(2)]).bars[:1]).with_columns(
        symbol=pl.lit("OTHER"),
        bar_start=pl.col("bar_start") - pl.duration(days=1),
        date=pl.col("date") - pl.duration(days=1),
    )
    Lake(live_lane.endpoints.lake_url).write_days("bars_1m", other, days=other["date"].to_list())
    inputs = ListQueue(messages[:500])
    drive(make_shell(inputs, Wire()), inputs)
    live_lane.query("UPDATE ops.feature_state SET state = 'SPFS0' WHERE feature_view = 'core_v1' RETURNING 1")
    inputs.messages = messages[500:]
    reads.clear()
    drive(make_shell(inputs, Wire()), inputs)
    assert 0 < len(reads) < len(SYMBOLS)
    expected = feed(make_engine(), [messages])
    assert sorted(live_lane.column("SELECT input_hash FROM surveillance.anomalies")) == sorted(
        row.input_hash for row in expected.anomalies
    )
