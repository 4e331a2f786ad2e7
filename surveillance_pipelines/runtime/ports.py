"""What the shell needs of the world, so that the same loop runs over SQS and PostgreSQL or over a simulation."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from surveillance_pipelines.contracts.queue import Received, SendEntry
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.engine import Swap
from surveillance_pipelines.engine.symbol_state import Seed
from surveillance_pipelines.stores.outbox import OutboxRow


class InputQueue(Protocol):
    """The queue of market messages."""

    def receive(self, max_messages: int, *, wait_seconds: int, visibility_seconds: int) -> list[Received]: ...

    def delete(self, receipts: Sequence[str]) -> None: ...

    def extend_visibility(self, receipts: Sequence[str], seconds: int) -> None: ...


class OutputQueue(Protocol):
    """The queue of alerts; sends in the order given, raises for what was not accepted."""

    def send(self, entries: Sequence[SendEntry]) -> list[str]: ...


class Bundles(Protocol):
    """Newly promoted models, loaded and warmed beside those that serve."""

    def take(self) -> Swap | None:
        """Return what to score with from now on, None to go on as before."""
        ...


class Store(Protocol):
    """The durable side of one input queue, under its lease.

    Each group of methods is called by a thread of its own: ``record_received``; ``served``, ``history``,
    ``held_before``, ``forget_held`` and ``unpublished``; ``commit``; ``mark_published``; ``renew``.
    """

    def record_received(self, number: int, batch: Sequence[Received], *, done: Sequence[int]) -> Known:
        """Put a micro-batch's receipts on record in place of those that are done; return which of its ids are known."""
        ...

    def held_before(self) -> Sequence[str]:
        """Return the receipts that holders before this one left."""
        ...

    def forget_held(self) -> None:
        """Strike out all receipts on record, of holders before this one and its own."""
        ...

    def served(self) -> Mapping[str, Seed]:
        """Return where every symbol that this queue has served goes on."""
        ...

    def history(self, symbols: Mapping[str, int], *, window_length: int = 1) -> Mapping[str, Seed]:
        """Return where symbols new to this queue start.

        Args:
            symbols: symbol → event time of its first tick, microseconds since the epoch.
            window_length: bars that the models read at once.
        """
        ...

    def commit(self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int) -> None:
        """Make effects durable, all or none; raises ``LeaseLostError`` and writes none once the lease is gone."""
        ...

    def unpublished(self) -> Sequence[OutboxRow]:
        """Return messages committed and not marked as sent, oldest first."""
        ...

    def mark_published(self, rows: Sequence[OutboxRow], *, published_at: int) -> None:
        """Record that messages were sent."""
        ...

    def renew(self) -> None:
        """Keep the lease; raises ``LeaseLostError`` once it is gone."""
        ...
