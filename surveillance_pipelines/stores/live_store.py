"""Store of a drain run for one input queue, in PostgreSQL; bar history is read from the lake."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from typing import Final

import psycopg

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.feature_tables import DEFAULT_VIEW
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.stores import ledger, outbox, seeding
from surveillance_pipelines.stores.database import Reconnector, connect
from surveillance_pipelines.stores.lake_history import BarReader, LakeHistory
from surveillance_pipelines.stores.lease import Lease, hidden_seconds, record_hidden, renew
from surveillance_pipelines.stores.outbox import SQS, OutboxRow

REPEATED_MARKS_US: Final = 10 * MICROSECONDS
"""Age of the deliveries that are recorded again on a new connection. PostgreSQL delays an asynchronous commit for less
than a second."""

IDLE_RENEWALS: Final = 20
"""Renewals of the lease without a new symbol, after which the histories read for further symbols are dropped: five
leases, because a batch of new symbols may take longer than one."""


@dataclass(frozen=True)
class Connections:
    """One connection for each thread of a drain run, in autocommit mode; opened again after it broke."""

    main: Reconnector
    receive: Reconnector
    commit: Reconnector
    publish: Reconnector
    heartbeat: Reconnector

    @classmethod
    def open(cls, stack: ExitStack, database_url: str) -> "Connections":
        """Open one connection per thread; the stack closes the connections.

        The receive and publish threads commit asynchronously. If a crash of the database server loses their last
        writes, messages stay hidden until their visibility timeout, and deliveries are recorded again or, by the next
        run, sent again with the same id.
        """
        opened = {
            field.name: stack.enter_context(
                Reconnector(partial(_open, database_url, synchronous=field.name not in ("receive", "publish")))
            )
            for field in fields(cls)
        }
        return cls(**opened)


def _open(database_url: str, *, synchronous: bool) -> psycopg.Connection:
    connection = connect(database_url, autocommit=True)
    if not synchronous:
        connection.execute("SET synchronous_commit TO off")
    return connection


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
        on_status: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connections: Final = connections
        self._history: Final = LakeHistory(lake, on_status)
        self._idle_renewals = 0  # since the last call of history
        self._lease: Final = lease
        self._feature_view: Final = feature_view
        self._window_length: Final = window_length
        self._run_id: Final = run_id
        self._openings = 1  # of the publish connection
        self._marked: Final[deque[tuple[Sequence[OutboxRow], int]]] = deque()
        self._failed_commit: int | None = None  # number of the commit whose call failed

    def record_received(self, number: int, batch: Sequence[Received], *, done: Sequence[int]) -> Known:
        return ledger.record_received(self._connections.receive.get(), self._lease, number, batch, done=done)

    def held_before(self) -> Sequence[str]:
        return ledger.held_before(self._connections.main.get(), self._lease)

    def hidden_seconds(self) -> int:
        return hidden_seconds(self._connections.main.get(), self._lease)

    def record_hidden(self, seconds: int) -> None:
        record_hidden(self._connections.receive.get(), self._lease, seconds)

    def forget_held(self) -> None:
        ledger.forget_held(self._connections.main.get(), self._lease)

    def served(self) -> Mapping[str, Seed]:
        connection = self._connections.main.get()
        view, length = self._feature_view, self._window_length
        return seeding.served_seeds(connection, self._history, self._lease.name, view, length)

    def history(
        self, symbols: Mapping[str, int], *, window_length: int = 1, feature_view: str = DEFAULT_VIEW
    ) -> Mapping[str, Seed]:
        connection = self._connections.main.get()
        try:
            return seeding.history_seeds(connection, self._history, symbols, window_length, feature_view)
        finally:
            self._idle_renewals = 0  # after the call, during which renewals continue

    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        connection = self._connections.commit.get()
        context = ledger.CommitContext(self._lease, self._run_id, committed_at, number)
        if number == self._failed_commit:
            posted = ledger.find_commit(connection, messages, context)
            if posted is not None:
                return posted
        self._failed_commit = number
        posted = ledger.commit_effects(connection, effects, messages, context)
        self._failed_commit = None
        return posted

    def unpublished(self) -> Sequence[OutboxRow]:
        return outbox.undelivered(self._connections.main.get(), self._lease.name, SQS)

    def mark_published(self, rows: Sequence[OutboxRow], *, published_at: int) -> None:
        link, queue_url = self._connections.publish, self._lease.name
        connection = link.get()
        if link.openings != self._openings:  # a crash of the server may have lost asynchronous commits
            self._openings = link.openings
            for marked, at in self._marked:
                outbox.mark_published(connection, queue_url, marked, published_at=at)
        outbox.mark_published(connection, queue_url, rows, published_at=published_at)
        self._marked.append((rows, published_at))
        while self._marked[0][1] < published_at - REPEATED_MARKS_US:
            self._marked.popleft()

    def renew(self) -> None:
        renew(self._connections.heartbeat.get(), self._lease)
        self._idle_renewals += 1
        if self._idle_renewals >= IDLE_RENEWALS:
            self.forget_history()

    def forget_history(self) -> None:
        """Drop the histories that were read for symbols that have not arrived. Any thread may call it."""
        self._history.forget()
