"""Store of a drain run for one input queue, in PostgreSQL; bar history is read from the lake."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Final

import psycopg

from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.symbol_state import Seed
from surveillance_pipelines.stores import ledger, outbox, seeding
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.lease import Lease, renew
from surveillance_pipelines.stores.outbox import SQS, OutboxRow
from surveillance_pipelines.stores.seeding import BarReader


@dataclass(frozen=True)
class Connections:
    """One connection for each thread of a drain run, in autocommit mode."""

    main: psycopg.Connection
    receive: psycopg.Connection
    commit: psycopg.Connection
    publish: psycopg.Connection
    heartbeat: psycopg.Connection

    @classmethod
    def open(cls, stack: ExitStack, database_url: str) -> "Connections":
        """Open one connection per thread; the stack closes the connections.

        The receive and publish threads commit asynchronously. If a crash of the database server loses their last
        writes, messages stay hidden until their visibility timeout, or are sent again with the same id.
        """
        opened = {field.name: stack.enter_context(connect(database_url, autocommit=True)) for field in fields(cls)}
        for name in ("receive", "publish"):
            opened[name].execute("SET synchronous_commit TO off")
        return cls(**opened)


class PostgresStore:
    """Implements ``ports.Store``."""

    def __init__(
        self,
        connections: Connections,
        lake: BarReader,
        lease: Lease,
        *,
        feature_view: str,
        window_length: int = 1,
        run_id: str | None = None,
    ) -> None:
        self._connections: Final = connections
        self._lake: Final = lake
        self._lease: Final = lease
        self._feature_view: Final = feature_view
        self._window_length: Final = window_length
        self._run_id: Final = run_id

    def record_received(self, number: int, batch: Sequence[Received], *, done: Sequence[int]) -> Known:
        return ledger.record_received(self._connections.receive, self._lease, number, batch, done=done)

    def held_before(self) -> Sequence[str]:
        return ledger.held_before(self._connections.main, self._lease)

    def forget_held(self) -> None:
        ledger.forget_held(self._connections.main, self._lease)

    def served(self) -> Mapping[str, Seed]:
        connection = self._connections.main
        return seeding.served_seeds(connection, self._lake, self._lease.name, self._feature_view, self._window_length)

    def history(self, symbols: Mapping[str, int], *, window_length: int = 1) -> Mapping[str, Seed]:
        return seeding.history_seeds(self._connections.main, self._lake, symbols, window_length)

    def commit(self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int) -> Sequence[OutboxRow]:
        context = ledger.CommitContext(self._lease, self._run_id, committed_at)
        return ledger.commit_effects(self._connections.commit, effects, messages, context)

    def unpublished(self) -> Sequence[OutboxRow]:
        return outbox.undelivered(self._connections.main, self._lease.name, SQS)

    def mark_published(self, rows: Sequence[OutboxRow], *, published_at: int) -> None:
        outbox.mark_published(self._connections.publish, self._lease.name, rows, published_at=published_at)

    def renew(self) -> None:
        renew(self._connections.heartbeat, self._lease)
