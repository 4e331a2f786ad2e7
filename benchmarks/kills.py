"""R2: ``kill -9`` of the serving run at random moments: ``python -m benchmarks.kills``.

A producer continuously sends ticks of ten symbols, a consumer reads the output queue, one drain run serves and another
stands by. The serving run is killed, the standby takes over, a new standby starts, and so on. At the end, every message
must have one outcome, the rows must equal those of an engine that never stopped, and a consumer that drops repeated ids
must have received each row once and in order.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.drain_processes import Runs, until
from benchmarks.harness import counted
from benchmarks.live_lane import Lane, make_lane, random_ticks, services
from benchmarks.models import SYMBOLS, ProofModels, proof_models
from surveillance_pipelines.clock import MICROSECONDS, SYSTEM_CLOCK, to_us
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.outputs import to_message
from surveillance_pipelines.contracts.queue import Received, SendEntry
from surveillance_pipelines.engine.effects import ClockRow, Effects, Known
from surveillance_pipelines.engine.engine import Engine, engine_config
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.hashing import canonical_json
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.runtime.serving_engine import load_calendars
from surveillance_pipelines.stores.database import connect

GOAL_SECONDS: Final = 2.0
RATE: Final = 50.0
_DELIVERED: Final = """
    SELECT 1 FROM ops.outbox JOIN ops.outbox_deliveries USING (position) WHERE run_id = %s AND channel = 'sqs' LIMIT 1
"""
_FIRST_DELIVERY: Final = """
    SELECT body::jsonb->>'correlation_id', min(delivered_at)
    FROM ops.outbox LEFT JOIN ops.outbox_deliveries USING (position) WHERE channel = 'sqs' GROUP BY 1
"""
_UNDELIVERED: Final = """
    SELECT 1 FROM ops.outbox LEFT JOIN ops.outbox_deliveries AS delivered USING (position)
    WHERE delivered.position IS NULL LIMIT 1
"""
_STAMPS: Final = frozenset({"t_computed", "t_committed", "t_published", "run_id"})


@dataclass
class Traffic:
    """The messages sent by the producer and received by the consumer."""

    lane: Lane
    stop: threading.Event = field(default_factory=threading.Event)
    sent: int = 0
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # (dedup id, group, row id) in order of arrival

    def produce(self) -> None:
        """Send a tick every 1/RATE seconds, in the order of symbols."""
        queue, shape = self.lane.inputs[0], random_ticks(20_000, begin_us=0)
        begin = SYSTEM_CLOCK.now_us()
        while not self.stop.is_set():
            tick = shape[self.sent % len(shape)]
            now = SYSTEM_CLOCK.now_us()
            body = encode_tick(Tick(tick.symbol, tick.price, tick.volume, now))
            queue.send([SendEntry(body, tick.symbol, f"tick-{self.sent}")])
            self.sent += 1
            due = begin + round(self.sent / RATE * MICROSECONDS)
            self.stop.wait(max(0.0, (due - SYSTEM_CLOCK.now_us()) / MICROSECONDS))

    def consume(self, ended: threading.Event) -> None:
        """Receive messages from the output queue until stopped and the queue is empty."""
        queue = self.lane.outputs
        while True:
            last = ended.is_set()
            batch = queue.receive(10, wait_seconds=1, visibility_seconds=30)
            self.seen += [(str(m.dedup_id), m.group_id, json.loads(m.body)["id"]) for m in batch]
            if batch:
                queue.delete([message.receipt_handle for message in batch])
            elif last:
                return

    @contextmanager
    def running(self) -> Iterator[None]:
        """Produce and consume in threads for a ``with`` block."""
        ended = threading.Event()
        threads = [threading.Thread(target=self.produce), threading.Thread(target=self.consume, args=(ended,))]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            ended.set()
            for thread in threads:
                thread.join()


@dataclass(frozen=True)
class Kill:
    """One takeover: the killed run, the time, and the successor."""

    dead: str
    successor: str
    at: int


def carry_out(lane: Lane, runs: Runs, count: int, seed: int) -> list[Kill]:
    """Kill the serving run ``count`` times, each at a random moment of its service."""
    moments, kills = random.Random(seed), []
    holder = runs.start()
    until(lambda: runs.has("holder", holder))
    for number in range(count):
        standby = runs.start()
        until(lambda run=standby: runs.has("standby", run))
        SYSTEM_CLOCK.sleep(moments.uniform(0.0, 1.0))
        kills.append(Kill(holder, standby, runs.kill(holder)))
        until(lambda run=standby: _has_published(lane, run))
        holder = standby
        if (number + 1) % 10 == 0:
            print(f"  {number + 1} of {count} kills", flush=True)
    return kills


def _has_published(lane: Lane, run_id: str) -> bool:
    return bool(lane.query(_DELIVERED, run_id))


@dataclass(frozen=True)
class Takeover:
    """Seconds from a kill to the successor's first output: of any symbol, and by symbol, in flight or not."""

    any_symbol: float
    free: list[float]
    in_flight: list[float]  # symbols with messages received by the killed run


def takeovers(lane: Lane, kills: Iterable[Kill]) -> list[Takeover]:
    """Return the takeover times of each kill, computed from the published rows."""
    published: dict[str, int] = {}
    for cause, at in lane.query(_FIRST_DELIVERY):
        published[cause] = to_us(at)
    first: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
    rows = lane.query("SELECT run_id, symbol, message_id, receive_count FROM ops.inbox ORDER BY position")
    for run_id, symbol, message_id, receive_count in rows:
        if message_id in published:
            first[run_id].setdefault(symbol, (message_id, receive_count))
    found: list[Takeover] = []
    for kill in kills:
        seconds = {
            symbol: ((published[message_id] - kill.at) / MICROSECONDS, receive_count > 1)
            for symbol, (message_id, receive_count) in first[kill.successor].items()
        }
        free = [cost for cost, again in seconds.values() if not again]
        again = [cost for cost, again in seconds.values() if again]
        found.append(Takeover(min(free + again), free, again))
    return found


def replayed(lane: Lane, models: ProofModels) -> Iterator[Effects]:
    """Feed the recorded inputs in order to an engine that never stops."""
    scorer = Ensemble(load_bundle(models.bundle.path))  # as the runs load it
    with connect(lane.endpoints.database_url, autocommit=True) as connection:
        sessions = load_calendars(connection, lane.settings, {})
    engine = Engine(engine_config(lane.settings, scorer), scorer, sessions, SYMBOLS)
    messages = lane.query(
        "SELECT position, message_id, body, group_id, dedup_id, sequence_number, sent_at, received_at, receive_count "
        "FROM ops.inbox ORDER BY position"
    )
    clock = lane.query("SELECT after_position, queue_clock, recorded_at, symbols FROM ops.clock_rows ORDER BY id")
    for position, *rest in [*messages, (float("inf"),)]:
        while clock and clock[0][0] < position:
            _, queue_clock, recorded_at, symbols = clock.pop(0)
            yield engine.apply_clock(ClockRow(to_us(queue_clock), to_us(recorded_at), tuple(symbols)))
        if rest:
            message_id, body, group, dedup, sequence, sent_at, received_at, count = rest
            message = Received(message_id, body, group, dedup, sequence, to_us(sent_at), to_us(received_at), count, "")
            readings = engine.read([message])
            for symbol in engine.symbols_to_seed(readings):
                engine.seed(symbol, Seed())
            yield engine.process(readings, Known())


def differences(lane: Lane, models: ProofModels, traffic: Traffic) -> dict[str, int]:
    """Return the numbers of messages and rows that violate a goal."""
    expected = {row.id: _content(to_message(row)) for effects in replayed(lane, models) for row in effects.outputs}
    stored = lane.query("SELECT id, group_id, body FROM ops.outbox ORDER BY position")
    actual = {id_: _content(json.loads(body)) for id_, _, body in stored}
    first: dict[str, tuple[str, str]] = {}
    for dedup_id, group, row_id in traffic.seen:
        first.setdefault(dedup_id, (group, row_id))
    arrived: dict[str, list[str]] = defaultdict(list)
    caused: dict[str, list[str]] = defaultdict(list)
    for group, row_id in first.values():
        arrived[group].append(row_id)
    for row_id, group, _ in stored:
        caused[group].append(row_id)
    ((outcomes, distinct),) = lane.query("SELECT count(*), count(DISTINCT message_id) FROM ops.ledger")
    return {
        "messages_lost": traffic.sent - distinct,
        "messages_with_two_outcomes": outcomes - distinct,
        "rows_lost": len(expected.keys() - actual.keys()),
        "rows_invented": len(actual.keys() - expected.keys()),
        "rows_that_say_something_else": sum(actual[id_] != expected[id_] for id_ in actual.keys() & expected.keys()),
        "rows_never_arrived": len(actual.keys() - {row_id for _, row_id in first.values()}),
        "symbols_out_of_order": sum(arrived[group] != caused[group] for group in caused),
    }


def _content(message: dict[str, Any]) -> str:
    return canonical_json({name: value for name, value in message.items() if name not in _STAMPS})


def prove(count: int, seed: int) -> dict[str, Any]:
    """Run the proof and return what ``harness.counted`` is to write."""
    models = proof_models()
    with services() as found, tempfile.TemporaryDirectory() as folder:
        lane = make_lane(found, Path(folder), models, publish_scores="all")
        traffic, runs = Traffic(lane), Runs(lane, Path(folder), DRAIN_WINDOW_SECONDS="100000")
        try:
            with traffic.running():
                kills = carry_out(lane, runs, count, seed)
                traffic.stop.set()
                until(lambda: lane.query("SELECT count(*) FROM ops.ledger")[0][0] >= traffic.sent)
                until(lambda: not lane.query(_UNDELIVERED))
        finally:
            runs.end()
        return summary(traffic, takeovers(lane, kills), differences(lane, models, traffic), seed)


def summary(traffic: Traffic, costs: list[Takeover], wrong: dict[str, int], seed: int) -> dict[str, Any]:
    """Return what ``harness.counted`` is to write."""
    spreads = {
        "next output": _spread([cost.any_symbol for cost in costs]),
        "next output of a symbol that was not in flight": _spread([s for cost in costs for s in cost.free]),
        "next output of a symbol that was in flight": _spread([s for cost in costs for s in cost.in_flight]),
    }
    rows = len({dedup_id for dedup_id, _, _ in traffic.seen})
    return {
        "work": f"kill -9 of the serving run at {len(costs)} random moments, a standby beside it; {RATE:.0f} "
        f"messages/s of ten symbols over a local HTTP queue; seed {seed}",
        "goal": f"rows of an engine that never stopped; the standby's next output ≤ {GOAL_SECONDS:g} s after the kill",
        "found": [
            f"{traffic.sent:,} messages, {rows:,} rows on the wire; "
            + ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in wrong.items()),
            *(
                f"{what}: median {spread['median']}, p95 {spread['p95']}, worst {spread['worst']} s (n {spread['n']})"
                for what, spread in spreads.items()
                if spread["n"]
            ),
        ],
        "met": not any(wrong.values()) and spreads["next output"]["worst"] <= GOAL_SECONDS,
        "figures": {"kills": len(costs), "messages": traffic.sent, "rows": rows, **wrong, "seconds": spreads},
    }


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {"n": 0}
    ordered = sorted(values)
    return {
        "n": len(values),
        "median": round(statistics.median(ordered), 3),
        "p95": round(ordered[round(0.95 * (len(ordered) - 1))], 3),
        "worst": round(ordered[-1], 3),
    }


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all goals are met, else 1."""
    parser = argparse.ArgumentParser(description="Kill the serving drain run again and again.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--result", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    result = counted("r2_kills", path=options.result, **prove(options.kills, options.seed))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
