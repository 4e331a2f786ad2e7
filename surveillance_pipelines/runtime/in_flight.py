"""Messages received and not deleted yet: hidden for longer while they are worked on, on record for the next holder.

A message is hidden for about a lease first: should the process die before it has put the receipt on record,
nobody can show the message again earlier. Only what is worked on for longer is hidden for ``SQS_VISIBILITY_TIMEOUT``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.runtime.tasks import Condition


@dataclass(slots=True)
class _Held:
    receipts: tuple[str, ...]
    renew_at: int  # a quarter of the time for which they are hidden is over then
    on_record: bool = False


class InFlight:
    """The receipt handles of this process, by micro-batch. Safe for several threads."""

    def __init__(self, changed: Condition) -> None:
        self._changed: Final = changed
        self._held: Final[dict[int, _Held]] = {}
        self._done: list[int] = []
        self._count = 0

    def add(self, receipts: Sequence[str], now_us: int, hidden_seconds: float) -> int:
        """Take in a micro-batch that is hidden from now on, and return its number."""
        with self._changed:
            self._count += 1
            self._held[self._count] = _Held(tuple(receipts), now_us + _quarter(hidden_seconds))
            return self._count

    def recorded(self, number: int) -> None:
        """Take in that a micro-batch's receipts are on record: only such may be hidden for longer."""
        with self._changed:
            if (held := self._held.get(number)) is not None:
                held.on_record = True

    def is_empty(self) -> bool:
        """Say whether no micro-batch is worked on."""
        with self._changed:
            return not self._held

    def wait_until_empty(self, seconds: float) -> None:
        """Wait until no micro-batch is worked on, or for so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held, seconds)

    def done(self, numbers: Iterable[int]) -> None:
        """Take in that micro-batches are deleted from the queue."""
        with self._changed:
            for number in numbers:
                self._held.pop(number, None)
                self._done.append(number)
            self._changed.notify_all()

    def take_done(self) -> list[int]:
        """Return the numbers that were done since the last call."""
        with self._changed:
            done, self._done = self._done, []
            return done

    def due(self, now_us: int) -> dict[int, tuple[str, ...]]:
        """Return the micro-batches that are to be hidden for longer: number → receipts."""
        with self._changed:
            return {
                number: held.receipts
                for number, held in self._held.items()
                if held.on_record and now_us >= held.renew_at
            }

    def hidden(self, numbers: Iterable[int], now_us: int, hidden_seconds: float) -> None:
        """Take in that micro-batches are hidden for another ``hidden_seconds`` from now."""
        with self._changed:
            for number in numbers:
                if (held := self._held.get(number)) is not None:
                    held.renew_at = now_us + _quarter(hidden_seconds)


def _quarter(seconds: float) -> int:
    return round(seconds / 4 * MICROSECONDS)
