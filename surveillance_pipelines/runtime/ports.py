"""The interfaces of the drain run, implemented by SQS and PostgreSQL, and by a simulation."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from surveillance_pipelines.contracts.queue import Poll, Received
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.engine import Swap
from surveillance_pipelines.engine.seed import Seed
from surveillance_pipelines.stores.outbox import OutboxRow


class InputQueue(Protocol):
    """The queue of market messages."""

    def poll(self, max_messages: int, *, wait_seconds: int, visibility_seconds: int) -> Poll: ...

    def probe(self) -> None:
        """Raise if the queue does not answer; receive nothing."""
        ...

    def delete(self, receipts: Sequence[str]) -> None: ...

    def extend_visibility(self, receipts: Sequence[str], seconds: int) -> None: ...


class Bundles(Protocol):
    """Newly promoted models, loaded and warmed while others serve."""

    def claim(self) -> Swap | None:
        """Return the models that replace the serving ones, None for no change."""
        ...


class Store(Protocol):
    """The stored state of one input queue, under its lease.

    Each group of methods is called by one thread: ``record_received``; ``served``, ``history``, ``held_before``,
    ``forget_held`` and ``unpublished``; ``commit``; ``mark_published``; ``renew``.

    Every call can be repeated after a failure, whether or not it took effect before.
    """

    def record_received(self, number: int, batch: Sequence[Received], *, done: Sequence[int]) -> Known:
        """Record the receipts of a micro-batch, delete those of the batches ``done``, and return its known ids.

        Raises:
            LeaseLostError: once the lease is lost.
        """
        ...

    def held_before(self) -> Sequence[str]:
        """Return the recorded receipts of earlier lease holders."""
        ...

    def hidden_seconds(self) -> int:
        """Return the initial visibility timeout that this or the previous holder recorded; 0 if none has."""
        ...

    def record_hidden(self, seconds: int) -> None:
        """Record the initial visibility timeout of the holder's messages, for itself and the next holder."""
        ...

    def forget_held(self) -> None:
        """Delete all recorded receipts, of earlier lease holders and of this one."""
        ...

    def served(self) -> Mapping[str, Seed]:
        """Return the stored state of every symbol that this queue has served."""
        ...

    def history(self, symbols: Mapping[str, int], *, window_length: int, feature_view: str) -> Mapping[str, Seed]:
        """Return the history of symbols that are new to this queue or have missed a session.

        Args:
            symbols: symbol → event time that the history must reach, microseconds since the epoch.
            window_length: bars per window of the models.
            feature_view: view of the models, which determines the centre of the peers' returns.
        """
        ...

    def commit(
        self, effects: Effects, messages: Sequence[OutboxRow], *, committed_at: int, number: int
    ) -> Sequence[OutboxRow]:
        """Make effects durable in one transaction; return the messages that are new to the outbox, with positions.

        Args:
            effects: what to store.
            messages: the messages of the effects.
            committed_at: microseconds since the epoch.
            number: number of the commit under this lease, from 1; a repeated number has no further effect.

        Raises:
            LeaseLostError: once the lease is lost; nothing is written.
        """
        ...

    def unpublished(self) -> Sequence[OutboxRow]:
        """Return messages that are committed and not marked as published, oldest first."""
        ...

    def mark_published(self, rows: Sequence[OutboxRow], *, published_at: int) -> None:
        """Mark messages as published; they directly follow those marked before."""
        ...

    def renew(self) -> None:
        """Extend the lease; raises ``LeaseLostError`` once it is lost."""
        ...
