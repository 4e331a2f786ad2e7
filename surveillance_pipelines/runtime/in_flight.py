"""Messages received and not deleted yet: kept hidden while they are in work, recorded for the next holder.

The first visibility timeout is about one lease: if the process dies before it has recorded the receipt, nobody can
make the message visible earlier. Only messages that take longer are hidden for ``SQS_VISIBILITY_TIMEOUT``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.runtime.tasks import Condition


@dataclass(slots=True)
class _Held:
    receipts: tuple[str, ...]
    renew_at: int  # when a quarter of the visibility timeout has passed
    on_record: bool = False


class InFlight:
    """The receipt handles of this process, by micro-batch. Safe for several threads."""

    def __init__(self, changed: Condition) -> None:
        self._changed: Final = changed
        self._held: Final[dict[int, _Held]] = {}
        self._done: list[int] = []
        self._count = 0

    def add(self, receipts: Sequence[str], now_us: int, hidden_seconds: float) -> int:
        """Add a micro-batch that is hidden from now on, and return its number."""
        with self._changed:
            self._count += 1
            self._held[self._count] = _Held(tuple(receipts), now_us + _quarter(hidden_seconds))
            return self._count

    def recorded(self, number: int) -> None:
        """Note that the receipts of a micro-batch are recorded: only those may be hidden for longer."""
        with self._changed:
            if (held := self._held.get(number)) is not None:
                held.on_record = True

    def is_empty(self) -> bool:
        """Say whether no micro-batch is in work."""
        with self._changed:
            return not self._held

    def wait_until_empty(self, seconds: float) -> None:
        """Wait until no micro-batch is in work, at most for ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held, seconds)

    def done(self, numbers: Iterable[int]) -> None:
        """Note that micro-batches are deleted from the queue."""
        with self._changed:
            for number in numbers:
                self._held.pop(number, None)
                self._done.append(number)
            self._changed.notify_all()

    def take_done(self) -> list[int]:
        """Return the numbers of micro-batches finished since the last call."""
        with self._changed:
            done, self._done = self._done, []
            return done

    def due(self, now_us: int) -> dict[int, tuple[str, ...]]:
        """Return the micro-batches whose visibility timeout must be extended: number → receipts."""
        with self._changed:
            return {
                number: held.receipts
                for number, held in self._held.items()
                if held.on_record and now_us >= held.renew_at
            }

    def hidden(self, numbers: Iterable[int], now_us: int, hidden_seconds: float) -> None:
        """Note that micro-batches are hidden for another ``hidden_seconds`` from now."""
        with self._changed:
            for number in numbers:
                if (held := self._held.get(number)) is not None:
                    held.renew_at = now_us + _quarter(hidden_seconds)


def _quarter(seconds: float) -> int:
    return round(seconds / 4 * MICROSECONDS)
