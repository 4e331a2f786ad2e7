"""Stores whose calls are repeated while the database is unavailable. Every call can be repeated without harm."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.runtime.delivery_loop import DeliveryStore
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.runtime.ports import Store
from surveillance_pipelines.stores.outbox import OutboxRow

_Result = TypeVar("_Result")


class RetryingStore:
    """Implements ``ports.Store``."""

    def __init__(self, store: Store, outages: Outages) -> None:
        self._store: Final = store
        self._outages: Final = outages

    def record_received(self, number: int, batch: Sequence[Received], *, done: Sequence[int]) -> Known:
        return self._repeat(lambda: self._store.record_received(number, batch, done=done))

    def held_before(self) -> Sequence[str]:
        return self._repeat(self._store.held_before)

    def hidden_seconds(self) -> int:
        return self._repeat(self._store.hidden_seconds)

    def record_hidden(self, seconds: int) -> None:
        self._repeat(lambda: self._store.record_hidden(seconds))

    def forget_held(self) -> None:
        self._repeat(self._store.forget_held)

    def served(self) -> Mapping[str, Seed]:
        return self._repeat(self._store.served)

    def history(self, symbols: Mapping[str, int], *, window_length: int, feature_view: str) -> Mapping[str, Seed]:
        return self._repeat(
            lambda: self._store.history(symbols, window_length=window_length, feature_view=feature_view)
        )

    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        return self._repeat(lambda: self._store.commit(effects, messages, committed_at=committed_at, number=number))

    def unpublished(self) -> Sequence[OutboxRow]:
        return self._repeat(self._store.unpublished)

    def mark_published(self, rows: Sequence[OutboxRow], *, published_at: int) -> None:
        self._repeat(lambda: self._store.mark_published(rows, published_at=published_at))

    def renew(self) -> None:
        self._repeat(self._store.renew)

    def _repeat(self, call: Callable[[], _Result]) -> _Result:
        return self._outages.repeat("database", call)


class RetryingDeliveryStore:
    """Implements ``delivery_loop.DeliveryStore``."""

    def __init__(self, store: DeliveryStore, outages: Outages) -> None:
        self._store: Final = store
        self._outages: Final = outages

    def queues(self) -> Sequence[str]:
        return self._repeat(self._store.queues)

    def undelivered(self, queue_url: str, *, after: int, limit: int) -> Sequence[OutboxRow]:
        return self._repeat(lambda: self._store.undelivered(queue_url, after=after, limit=limit))

    def record(
        self, queue_url: str, rows: Sequence[OutboxRow], references: Sequence[str | None], *, at: int, cursor: int
    ) -> None:
        self._repeat(lambda: self._store.record(queue_url, rows, references, at=at, cursor=cursor))

    def record_failure(self, error: str, *, at: int) -> None:
        self._repeat(lambda: self._store.record_failure(error, at=at))

    def renew(self) -> None:
        self._repeat(self._store.renew)

    def _repeat(self, call: Callable[[], _Result]) -> _Result:
        return self._outages.repeat("database", call)
