"""Messages that were received and are not deleted: hidden while in progress, recorded for the next lease holder.

The initial visibility timeout is about one lease: if the process dies before it has recorded the receipts, no other run
can make the messages visible earlier. Only messages that take longer are hidden for ``SQS_VISIBILITY_TIMEOUT``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.runtime.tasks import Condition


@dataclass(slots=True)
class _HeldBatch:
    receipts: tuple[str, ...]
    groups: frozenset[str]
    renew_at: int  # when a quarter of the visibility timeout has passed
    recorded: bool = False


class InFlight:
    """The receipt handles of this process, by micro-batch. Thread-safe.

    Attributes:
        hides_messages: whether messages of a finished micro-batch may still be in the queue and hidden.
    """

    def __init__(self, changed: Condition) -> None:
        self._changed: Final = changed
        self._held: Final[dict[int, _HeldBatch]] = {}
        self._done: list[int] = []
        self._count = 0
        self.hides_messages = False

    def add(self, batch: Sequence[Received], now_us: int, hidden_seconds: float) -> int:
        """Add a micro-batch that is hidden for ``hidden_seconds``, and return its number."""
        receipts = tuple(message.receipt_handle for message in batch)
        groups = frozenset(message.group_id for message in batch)
        with self._changed:
            self._count += 1
            self._held[self._count] = _HeldBatch(receipts, groups, now_us + _quarter(hidden_seconds))
            return self._count

    def groups(self) -> frozenset[str]:
        """Return the message groups in progress; SQS returns no further message of them."""
        with self._changed:
            return frozenset().union(*(held.groups for held in self._held.values()))

    def receipts(self) -> list[str]:
        """Return the receipts of all messages in progress."""
        with self._changed:
            return [receipt for held in self._held.values() for receipt in held.receipts]

    def mark_recorded(self, number: int) -> None:
        """Mark the receipts of a micro-batch as recorded; only recorded ones may be hidden for longer."""
        with self._changed:
            if (held := self._held.get(number)) is not None:
                held.recorded = True

    def is_empty(self) -> bool:
        """Return whether no micro-batch is in progress."""
        with self._changed:
            return not self._held

    def wait_until_empty(self, seconds: float) -> None:
        """Wait until no micro-batch is in progress, for at most ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held, seconds)

    def mark_done(self, numbers: Iterable[int], *, hidden: bool = False) -> None:
        """Remove micro-batches that are finished.

        Args:
            numbers: the micro-batches.
            hidden: messages of them may still be in the queue and hidden. Their receipts then stay recorded, so that
                the next lease holder can make them visible.
        """
        with self._changed:
            for number in numbers:
                self._held.pop(number, None)
                if not hidden:
                    self._done.append(number)
            self.hides_messages |= hidden
            self._changed.notify_all()

    def pop_done(self) -> list[int]:
        """Return the numbers of micro-batches finished since the last call."""
        with self._changed:
            done, self._done = self._done, []
            return done

    def due_for_extension(self, now_us: int) -> dict[int, tuple[str, ...]]:
        """Return the micro-batches whose visibility timeout must be extended: number → receipts."""
        with self._changed:
            return {
                number: held.receipts
                for number, held in self._held.items()
                if held.recorded and now_us >= held.renew_at
            }

    def mark_hidden(self, numbers: Iterable[int], now_us: int, hidden_seconds: float) -> None:
        """Mark micro-batches as hidden for another ``hidden_seconds`` from now."""
        with self._changed:
            for number in numbers:
                if (held := self._held.get(number)) is not None:
                    held.renew_at = now_us + _quarter(hidden_seconds)


def _quarter(seconds: float) -> int:
    return round(seconds / 4 * MICROSECONDS)
