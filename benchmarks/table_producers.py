"""The ten producers of P10: each appends 200 micro-batches of ticks, through the ledger or with deltalake."""

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from multiprocessing.synchronize import Barrier
from typing import Any, Final

import polars as pl

from surveillance_pipelines.clock import SYSTEM_CLOCK, day_start_us
from surveillance_pipelines.contracts.frames import TICK_SCHEMA, UTC_MICROSECONDS
from surveillance_pipelines.contracts.market import Tick
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.market.messages import encode_tick

PRODUCERS: Final = 10
APPENDS: Final = 200
ROWS: Final = 10

_SPAWN: Final = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Load:
    """The ticks of one round, all of one UTC day."""

    day: date
    appends: int = APPENDS
    producers: int = PRODUCERS

    @property
    def rows(self) -> int:
        return self.producers * self.appends * ROWS


def tick(load: Load, producer: int, number: int) -> Tick:
    """Return the ``number``-th tick of a producer; each producer has one symbol and one tick per second."""
    return Tick(
        f"P{producer:02d}", 100.0 + number % 500 * 0.01, 100.0 + number, day_start_us(load.day) + number * 1_000_000
    )


def message_id(load: Load, producer: int, number: int) -> str:
    return f"{load.day}-{producer:02d}-{number:06d}"


@contextmanager
def producing(target: Any, load: Load, *arguments: Any) -> Iterator[tuple[Barrier, Sequence[Any]]]:
    """Start the producers, which wait at a barrier for the caller, and join them at the end.

    Yields:
        The barrier, and the processes.

    Raises:
        RuntimeError: if a producer fails.
    """
    barrier = _SPAWN.Barrier(load.producers + 1)
    processes = [
        _SPAWN.Process(target=target, args=(load, producer, barrier, *arguments)) for producer in range(load.producers)
    ]
    for process in processes:
        process.start()
    yield barrier, processes
    for process in processes:
        process.join()
    if failed := [process.exitcode for process in processes if process.exitcode != 0]:
        raise RuntimeError(f"expected {load.producers} producers to end well, {len(failed)} ended with {failed}")


def append_through_ledger(load: Load, producer: int, barrier: Barrier, database_url: str) -> None:
    """Commit micro-batches as a drain run does: inbox and ledger in one transaction under the queue's lease."""
    from surveillance_pipelines.engine.effects import Effects, InboxRow, Outcome
    from surveillance_pipelines.stores.database import connect
    from surveillance_pipelines.stores.lease import acquire
    from surveillance_pipelines.stores.ledger import CommitContext, commit_effects

    with connect(database_url, autocommit=True) as connection:
        lease = acquire(connection, f"proof-{load.day}-{producer}", holder="proof", seconds=600.0)
        assert lease is not None
        barrier.wait()
        for append in range(load.appends):
            effects = Effects()
            for number in range(append * ROWS, (append + 1) * ROWS):
                message = _received(load, producer, number)
                event = tick(load, producer, number)
                effects.inbox.append(InboxRow(message, event.event_time, event.symbol))
                effects.outcomes.append(Outcome(message.message_id, message.dedup_id, "scored"))
            commit_effects(connection, effects, [], CommitContext(lease, None, SYSTEM_CLOCK.now_us()))


def append_with_deltalake(load: Load, producer: int, barrier: Barrier, uri: str, raised: Any) -> None:
    """Append micro-batches to the table with the library's defaults; a failed commit is counted and loses its rows."""
    from deltalake import write_deltalake
    from deltalake.exceptions import DeltaError

    lost = 0
    barrier.wait()
    for append in range(load.appends):
        frame = ticks_frame(load, producer, range(append * ROWS, (append + 1) * ROWS))
        try:
            write_deltalake(uri, frame, mode="append")
        except DeltaError:
            lost += 1
    raised[producer] = lost


def ticks_frame(load: Load, producer: int, numbers: range) -> pl.DataFrame:
    """Return ticks with the columns of ``TICK_SCHEMA``."""
    rows = []
    for number in numbers:
        event = tick(load, producer, number)
        rows.append((
            load.day, event.symbol, event.event_time, event.price, event.volume, None, None, "sqs",
            message_id(load, producer, number), SYSTEM_CLOCK.now_us(), "scored",
        ))  # fmt: skip
    raw = {name: pl.Int64 if dtype == UTC_MICROSECONDS else dtype for name, dtype in TICK_SCHEMA.items()}
    return pl.DataFrame(rows, schema=raw, orient="row").cast(TICK_SCHEMA)


def counters(load: Load) -> Any:
    """Return shared integers, one for each producer."""
    return _SPAWN.Array("i", load.producers)


def _received(load: Load, producer: int, number: int) -> Received:
    now = SYSTEM_CLOCK.now_us()
    name = message_id(load, producer, number)
    return Received(
        message_id=name,
        body=encode_tick(tick(load, producer, number)),
        group_id=f"P{producer:02d}",
        dedup_id=name,
        sequence_number=f"{number:020d}",
        sent_at=now,
        received_at=now,
        receive_count=1,
        receipt_handle="",
    )
