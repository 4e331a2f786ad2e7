"""When a symbol may signal again (SIGNAL_COOLDOWN_SECONDS, WARMUP_SIGNAL_FREQUENCY), in event time.

The distance is taken between starts of bars, so batch scoring of a served day passes the same signals.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignalPace:
    """Shortest distance between two signals of a symbol, in microseconds."""

    cooldown: int
    warmup: int

    def gap(self, *, warmup: bool) -> int:
        """Return the distance to keep before a signal; a warm-up signal keeps both."""
        return max(self.cooldown, self.warmup) if warmup else self.cooldown


class SignalGate:
    """Remembers the last signal of one symbol."""

    def __init__(self, last_bar_start: int | None = None) -> None:
        self.last_bar_start = last_bar_start

    def passes(self, bar_start: int, gap: int) -> bool:
        """Say whether a signal on this bar may go out, and remember it if so."""
        if self.last_bar_start is not None and bar_start - self.last_bar_start < gap:
            return False
        self.last_bar_start = bar_start
        return True
