"""``ports.Store`` over the simulated database, under one lease."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.engine.snapshots import SERVING_STATE
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.stores.lease import Lease
from surveillance_pipelines.stores.outbox import SQS, OutboxRow
from surveillance_pipelines_tests.simulation.database import Database

UNPUBLISHED_LIMIT: Final = 7
"""Small, so that a restart needs several rounds to publish what is left; PostgreSQL is asked for 1,000 at a time."""


class MemoryStore:
    """Implements ``ports.Store``; ``in_transaction`` is called while a commit's transaction is open."""

    def __init__(
        self, database: Database, lease: Lease, feature_view: str, in_transaction: Callable[[], None] = lambda: None
    ) -> None:
        self.database: Final = database
        self.lease: Final = lease
        self._feature_view: Final = feature_view
        self._in_transaction: Final = in_transaction
        self._failed_commit: int | None = None

    def record_received(self, number: int, batch: Sequence[Received], *, done: Sequence[int]) -> Known:
        held, fencing = self.database.in_flight, self.lease.fencing
        self.database.require_held(self.lease)
        for finished in done:
            held.pop((fencing, finished), None)
        held[fencing, number] = tuple(message.receipt_handle for message in batch)
        return self.known(batch)

    def held_before(self) -> Sequence[str]:
        held = sorted(self.database.in_flight.items())
        return [receipt for (fencing, _), receipts in held if fencing < self.lease.fencing for receipt in receipts]

    def hidden_seconds(self) -> int:
        return self.database.hidden_seconds

    def record_hidden(self, seconds: int) -> None:
        self.database.require_held(self.lease)
        self.database.hidden_seconds = seconds

    def forget_held(self) -> None:
        held = self.database.in_flight
        for key in [key for key in held if key[0] <= self.lease.fencing]:
            del held[key]

    def known(self, batch: Sequence[Received]) -> Known:
        """Return which ids of a micro-batch have a ledger row."""
        ledger, taken = self.database.ledger, self.database.dedup_ids
        return Known(
            frozenset(message.message_id for message in batch if message.message_id in ledger),
            {
                message.dedup_id: taken[message.dedup_id]
                for message in batch
                if message.dedup_id in taken and message.dedup_id
            },
        )

    def served(self) -> Mapping[str, Seed]:
        states = self.database.feature_state
        return {symbol: self._seed(symbol) for symbol, name in sorted(states) if name == SERVING_STATE}

    def history(
        self, symbols: Mapping[str, int], *, window_length: int = 1, feature_view: str = "core_v1"
    ) -> Mapping[str, Seed]:
        database = self.database
        return {
            symbol: Seed(
                bars=database.history(symbol, at),
                revisable=database.revisable(symbol, at - at % 60_000_000 - 1),
                lake="absent",
            )
            for symbol, at in symbols.items()
        }

    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        if number == self._failed_commit and self.database.committed(self.lease) >= number:
            return self.database.found(messages)
        self._failed_commit = number
        with self.database.transaction(self.lease):
            self._in_transaction()
            posted = self.database.write(effects, messages, self.lease.fencing)
            self.database.leases[self.lease.name].commits = number
        return posted

    def unpublished(self) -> Sequence[OutboxRow]:
        return self.database.undelivered(SQS, limit=UNPUBLISHED_LIMIT)

    def mark_published(self, rows: Sequence[OutboxRow], *, published_at: int) -> None:
        cursor = max((row.position for row in rows), default=0)
        self.database.record_deliveries(SQS, rows, at=published_at, cursor=cursor)

    def renew(self) -> None:
        self.database.renew(self.lease)

    def _seed(self, symbol: str) -> Seed:
        database = self.database
        serving = database.feature_state[symbol, SERVING_STATE]
        last = serving.as_of_bar_start
        features = database.feature_state.get((symbol, self._feature_view))
        if features is None:  # `seeding._rebuilt`: never here, a lane's first commit holds a snapshot
            if last is None:
                return Seed(serving=serving.state)
            bars = database.history(symbol, last + 60_000_000)
            return Seed(serving=serving.state, bars=bars, revisable=database.revisable(symbol, last), lake="absent")
        FeatureState.restore(features.state)  # raises for bytes that no run could go on from
        return Seed(
            features=features.state,
            serving=serving.state,
            bars=database.served_bars(symbol, features.as_of_bar_start or 0, last or 0),
            revisable=database.revisable(symbol, last),
        )
