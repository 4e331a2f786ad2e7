"""The durable side of one input queue in PostgreSQL, with the lake behind it for history."""

from collections.abc import Mapping, Sequence
from typing import Final

import psycopg

from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.serving import ledger, outbox, seeding
from surveillance_pipelines.serving.effects import Effects, Known
from surveillance_pipelines.serving.lease import Lease, renew
from surveillance_pipelines.serving.outbox import OutboxRow
from surveillance_pipelines.serving.seeding import BarReader
from surveillance_pipelines.serving.symbol_lane import Seed


class PostgresStore:
    """Implements ``ports.Store`` over one connection in autocommit mode."""

    def __init__(
        self,
        connection: psycopg.Connection,
        lake: BarReader,
        lease: Lease,
        *,
        feature_view: str,
        run_id: str | None = None,
    ) -> None:
        self._connection: Final = connection
        self._lake: Final = lake
        self._lease: Final = lease
        self._feature_view: Final = feature_view
        self._run_id: Final = run_id

    def known(self, batch: Sequence[Received]) -> Known:
        return ledger.known_ids(self._connection, self._lease.queue_url, batch)

    def served(self) -> Mapping[str, Seed]:
        return seeding.served_seeds(self._connection, self._lake, self._lease.queue_url, self._feature_view)

    def history(self, symbols: Mapping[str, int]) -> Mapping[str, Seed]:
        return seeding.history_seeds(self._connection, self._lake, symbols)

    def commit(self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int) -> None:
        context = ledger.CommitContext(self._lease, self._run_id, committed_at)
        ledger.commit_effects(self._connection, effects, messages, context)

    def unpublished(self) -> Sequence[OutboxRow]:
        return outbox.unpublished(self._connection, self._lease.queue_url)

    def mark_published(self, ids: Sequence[str], *, published_at: int) -> None:
        outbox.mark_published(self._connection, ids, published_at=published_at)

    def renew(self) -> None:
        renew(self._connection, self._lease)
