"""What the shell needs of the world, so that the same loop runs over SQS and PostgreSQL or over a simulation."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from surveillance_pipelines.contracts.queue import Received, SendEntry
from surveillance_pipelines.serving.effects import Effects, Known
from surveillance_pipelines.serving.outbox import OutboxRow
from surveillance_pipelines.serving.symbol_lane import Seed


class InputQueue(Protocol):
    """The queue of market messages."""

    def receive(self, max_messages: int, *, wait_seconds: int, visibility_seconds: int) -> list[Received]: ...

    def delete(self, receipts: Sequence[str]) -> None: ...


class OutputQueue(Protocol):
    """The queue of alerts; sends in the order given, raises for what was not accepted."""

    def send(self, entries: Sequence[SendEntry]) -> list[str]: ...


class Store(Protocol):
    """The durable side of one input queue, under its lease."""

    def known(self, batch: Sequence[Received]) -> Known:
        """Return which ids of a micro-batch are done."""
        ...

    def served(self) -> Mapping[str, Seed]:
        """Return where every symbol that this queue has served goes on."""
        ...

    def history(self, symbols: Mapping[str, int]) -> Mapping[str, Seed]:
        """Return where symbols new to this queue start, given the event time of their first tick."""
        ...

    def commit(self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int) -> None:
        """Make effects durable, all or none; raises ``LeaseLostError`` and writes none once the lease is gone."""
        ...

    def unpublished(self) -> Sequence[OutboxRow]:
        """Return messages committed and not marked as sent, oldest first."""
        ...

    def mark_published(self, ids: Sequence[str], *, published_at: int) -> None:
        """Record that messages were sent."""
        ...

    def renew(self) -> None:
        """Keep the lease; raises ``LeaseLostError`` once it is gone."""
        ...
