"""Messages received and not deleted yet: hidden for longer while they are worked on, on record for the next holder."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS


@dataclass(slots=True)
class _Held:
    receipts: tuple[str, ...]
    hidden_since: int


class InFlight:
    """The receipt handles of this process, by micro-batch. Safe for several threads."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._held: Final[dict[int, _Held]] = {}
        self._done: list[int] = []
        self._count = 0

    def add(self, receipts: Sequence[str], now_us: int) -> int:
        """Take in a micro-batch, and return its number."""
        with self._lock:
            self._count += 1
            self._held[self._count] = _Held(tuple(receipts), now_us)
            return self._count

    def done(self, numbers: Iterable[int]) -> None:
        """Take in that micro-batches are deleted from the queue."""
        with self._lock:
            for number in numbers:
                self._held.pop(number, None)
                self._done.append(number)

    def take_done(self) -> list[int]:
        """Return the numbers that were done since the last call."""
        with self._lock:
            done, self._done = self._done, []
            return done

    def due(self, now_us: int, seconds: float) -> list[str]:
        """Return the receipts that were hidden at least ``seconds`` ago, and count them as hidden from now."""
        receipts: list[str] = []
        with self._lock:
            for held in self._held.values():
                if now_us - held.hidden_since >= seconds * MICROSECONDS:
                    held.hidden_since = now_us
                    receipts += held.receipts
        return receipts
