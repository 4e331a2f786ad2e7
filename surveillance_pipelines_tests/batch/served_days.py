"""Days served by the live lane, then filled and scored by the warehouse: are the rows the same?

The live lane is the platform's own drain run over real PostgreSQL; only SQS is a queue in memory, and its clock runs
fast, so that thirty days take minutes. The warehouse is the platform's own assets.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from unittest import mock

import dagster as dg
import polars as pl
import psycopg

from surveillance_pipelines.clock import Clock
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.outputs import IDENTITY_FREE
from surveillance_pipelines.contracts.queue import Poll, QueueDepth, Received, SendEntry
from surveillance_pipelines.defs.anomalies.assets import batch_scoring
from surveillance_pipelines.defs.bars.assets import bars_1m
from surveillance_pipelines.defs.bars.assets import ticks as ticks_asset
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.defs.features.assets import features_core_v1
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.market.messages import encode_tick
from surveillance_pipelines.runtime import drain as drain_module
from surveillance_pipelines.runtime.drain import drain
from surveillance_pipelines.stores import tables
from surveillance_pipelines.stores.lake import Lake

SPEED: Final = 20.0
"""Event clock seconds a second: the last minute of a run is waited for."""

_QUIET: Final = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}

LAKE_TABLES: Final = ("bars_1m", "features_core_v1", "scores")
_OUTPUTS: Final = {
    tables.ANOMALIES: "alert_status = 'confirmed'",
    tables.INCIDENTS: "incident_status IN ('confirmed', 'updated', 'closed')",
    tables.SIGNALS: "true",
    tables.PREDICTIONS: "true",
}
"""Table → which of its rows stand on closed bars, as every row of batch scoring does."""
_OPEN_INCIDENTS: Final = """
    SELECT count(DISTINCT incident_id) FROM surveillance.incidents AS incident WHERE NOT EXISTS (
        SELECT FROM surveillance.incidents AS ended
        WHERE ended.incident_id = incident.incident_id AND ended.incident_status IN ('closed', 'retracted')
    )
"""


class FastClock:
    """A clock that runs ``SPEED`` times as fast as the machine's."""

    def __init__(self) -> None:
        self._begin, self._wall = time.time_ns() // 1_000, time.monotonic_ns()

    def now_us(self) -> int:
        return self._begin + round((time.monotonic_ns() - self._wall) / 1_000 * SPEED)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / SPEED)


class MemoryQueue:
    """What the shell asks of a FIFO queue, without redelivery."""

    content_based_dedup: Final = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[SendEntry] = deque()
        self._lock = threading.Lock()
        self.taken = 0
        self.sent = 0

    def poll(self, max_messages: int, *, wait_seconds: int, visibility_seconds: int) -> Poll:
        with self._lock:
            entries = [self._waiting.popleft() for _ in range(min(max_messages, len(self._waiting)))]
            first, self.taken = self.taken, self.taken + len(entries)
        if not entries:
            time.sleep(0.01)
        now = self._clock.now_us()
        messages = [
            Received(f"m{n:08d}", entry.body, entry.group_id, entry.dedup_id, f"{n:020d}", now, now, 1, f"r{n:08d}")
            for n, entry in enumerate(entries, first)
        ]
        return Poll(messages, now)

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        with self._lock:
            self._waiting.extend(entries)
            self.sent += len(entries)
        return [f"s{n}" for n in range(len(entries))]

    def delete(self, receipts: Sequence[str]) -> None:
        """Do nothing: a message is gone when it is taken."""

    def extend_visibility(self, receipts: Sequence[str], seconds: int) -> None:
        """Do nothing: nothing becomes visible again."""

    def depth(self) -> QueueDepth:
        return QueueDepth(len(self._waiting), 0, 0)

    def close(self) -> None:
        """Do nothing."""


def serve(platform: PlatformResource, ticks: pl.DataFrame, *, runs: int) -> dict[str, int]:
    """Serve ticks of ``TICK_SCHEMA`` in so many drain runs or more, one after the other; return the outcomes of all."""
    endpoints, settings, clock = platform.endpoints, platform.settings, FastClock()
    (queue_url,) = endpoints.queue_urls
    queues = {queue_url: MemoryQueue(clock), endpoints.output_queue_url: MemoryQueue(clock)}
    names = ("symbol", "price", "volume", "event_time")
    rows = ticks.with_columns(pl.col("event_time").dt.timestamp("us")).select(names).rows()
    entries = [SendEntry(encode_tick(Tick(*row)), row[0], f"d{n}") for n, row in enumerate(rows)]
    with mock.patch.object(drain_module, "QueueClient", lambda *arguments, **_: queues[arguments[3]]):
        size = -(-len(entries) // runs)
        for number, start in enumerate(range(0, len(entries), size)):
            queues[queue_url].send(entries[start : start + size])
            while queues[queue_url].depth().total:  # a slow machine can look idle to a fast clock
                drain(endpoints, settings, queue_url, run_id=f"served-{number}", window_seconds=1e6, clock=clock)
    with platform.connect() as connection:
        return dict(connection.execute("SELECT outcome, count(*) FROM ops.ledger GROUP BY outcome").fetchall())


def open_incidents(connection: psycopg.Connection[Any]) -> int:
    """Return the number of incidents that no later message has closed."""
    row = connection.execute(_OPEN_INCIDENTS).fetchone()
    return 0 if row is None else row[0]


def fill_and_score(
    platform: PlatformResource, first: date, last: date, bundle_hash: str, *, bars: bool = True
) -> dict[str, Any]:
    """Let the warehouse fill a range of days and score it with one bundle; return what ``signals`` reports.

    Args:
        platform: whose stores.
        first: first day.
        last: last day, included.
        bundle_hash: of the bundle.
        bars: whether bars come from what was served and landed; else they are in the lake.
    """
    made: list[Any] = [ticks_asset, bars_1m] if bars else []
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            [*made, features_core_v1, batch_scoring],
            instance=instance,
            resources={"platform": platform},
            tags=range_tags(first, last),
            run_config={"ops": {"batch_scoring": {"config": {"bundle_hash": bundle_hash}}}, **_QUIET},
        )
    found: dict[str, Any] = {}
    for event in done.get_asset_materialization_events():
        for name in ("new_rows", "new_predictions", "bars_scored"):
            if name in event.materialization.metadata:
                found[f"{event.materialization.asset_key.to_user_string()}.{name}"] = event.materialization.metadata[
                    name
                ].value
    return found


@dataclass(frozen=True, slots=True)
class Compared:
    """Rows of one table, served and scored at rest."""

    table: str
    served: int
    scored: int
    equal: int
    differences: tuple[str, ...]  # the first few, in words

    @property
    def holds(self) -> bool:
        return self.served == self.scored == self.equal > 0


def compare(served: psycopg.Connection[Any], scored: psycopg.Connection[Any]) -> list[Compared]:
    """Compare every row that stands on a closed bar, in all fields but those that only a run knows."""
    found = []
    for table, condition in _OUTPUTS.items():
        theirs, ours = (_rows(connection, table, condition) for connection in (served, scored))
        wrong = [f"{id_[:12]}: {_difference(theirs.get(id_), ours.get(id_))}"
                 for id_ in sorted(theirs.keys() | ours.keys()) if theirs.get(id_) != ours.get(id_)]  # fmt: skip
        equal = len(theirs.keys() | ours.keys()) - len(wrong)
        found.append(Compared(table.name, len(theirs), len(ours), equal, tuple(wrong[:5])))
    return found


def kept(platform: PlatformResource, first: date, last: date) -> dict[str, Any]:
    """Return what lake and tables hold of a range of days; of scores at rest, all but the run that wrote them."""
    held: dict[str, Any] = {}
    for table in LAKE_TABLES:
        frame = platform.lake.read(table, days=(first, last))
        held[table] = frame.drop("run_id", strict=False).sort("bar_start", "symbol", "revision")
    with platform.connect() as connection:
        for table in _OUTPUTS:
            statement = f"SELECT * FROM {table.name} WHERE bar_start::date <= %s ORDER BY bar_start, id"
            held[table.name] = connection.execute(statement.encode(), (last,)).fetchall()
    return held


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of what is not the same in two results of ``kept``."""
    return [
        name
        for name, value in before.items()
        if not (value.equals(after[name]) if isinstance(value, pl.DataFrame) else value == after[name])
    ]


def copy_bars(source: Lake, target: Lake) -> None:
    """Copy the bars of one lake to another: a platform that has them and never served."""
    target.write_days("bars_1m", source.read("bars_1m"), days=source.days("bars_1m"))


def _rows(connection: psycopg.Connection[Any], table: tables.Table, condition: str) -> dict[str, dict[str, Any]]:
    names = [name for name in table.columns if name not in IDENTITY_FREE]
    statement = f"SELECT {', '.join(names)} FROM {table.name} WHERE {condition}"
    rows = [dict(zip(names, row, strict=True)) for row in connection.execute(statement.encode())]
    return {row["id"]: row for row in rows}


def _difference(served: Mapping[str, Any] | None, scored: Mapping[str, Any] | None) -> str:
    if served is None or scored is None:
        known = served or scored or {}
        where = "served only" if scored is None else "scored at rest only"
        return f"{where}, {known.get('symbol')} {known.get('bar_start')}"
    return ", ".join(f"{name} {served[name]!r} and {scored[name]!r}" for name in served if served[name] != scored[name])
