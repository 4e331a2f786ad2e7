"""The ports of the drain run, so that the same loop runs over SQS and PostgreSQL or over a simulation."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.engine import Swap
from surveillance_pipelines.engine.symbol_state import Seed
from surveillance_pipelines.stores.outbox import OutboxRow


class InputQueue(Protocol):
    """The queue of market messages."""

    def receive(self, max_messages: int, *, wait_seconds: int, visibility_seconds: int) -> list[Received]: ...

    def delete(self, receipts: Sequence[str]) -> None: ...

    def extend_visibility(self, receipts: Sequence[str], seconds: int) -> None: ...


class Bundles(Protocol):
    """Newly promoted models, loaded and warmed beside those that serve."""

    def claim(self) -> Swap | None:
        """Return the models to score with from now on, None for no change."""
        ...


class Store(Protocol):
    """Everything stored of one input queue, under its lease.

    Each group of methods is called by its own thread: ``record_received``; ``served``, ``history``, ``held_before``,
    ``forget_held`` and ``unpublished``; ``commit``; ``mark_published``; ``renew``.
    """

    def record_received(self, number: int, batch: Sequence[Received], *, done: Sequence[int]) -> Known:
        """Record the receipts of a micro-batch, delete those of ``done``, and return which of its ids are known."""
        ...

    def held_before(self) -> Sequence[str]:
        """Return the receipts that earlier holders left."""
        ...

    def forget_held(self) -> None:
        """Delete all recorded receipts, of earlier holders and of this one."""
        ...

    def served(self) -> Mapping[str, Seed]:
        """Return the state to continue from, of every symbol that this queue has served."""
        ...

    def history(self, symbols: Mapping[str, int], *, window_length: int = 1) -> Mapping[str, Seed]:
        """Return where symbols new to this queue start.

        Args:
            symbols: symbol → event time of its first tick, microseconds since the epoch.
            window_length: bars that the models read at once.
        """
        ...

    def commit(self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int) -> Sequence[OutboxRow]:
        """Make effects durable, all or none; return the messages that are new to the outbox, with their positions.

        Raises:
            LeaseLostError: once the lease is lost; nothing is written then.
        """
        ...

    def unpublished(self) -> Sequence[OutboxRow]:
        """Return messages committed and not marked as published, oldest first."""
        ...

    def mark_published(self, rows: Sequence[OutboxRow], *, published_at: int) -> None:
        """Record that messages are on the output queue; they follow directly on those marked before."""
        ...

    def renew(self) -> None:
        """Extend the lease; raises ``LeaseLostError`` once it is lost."""
        ...
