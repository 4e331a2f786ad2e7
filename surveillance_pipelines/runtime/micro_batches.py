"""What the steps of the shell pass to one another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.effects import Effects, Known
from surveillance_pipelines.engine.event_clock import ClockReading
from surveillance_pipelines.stores.outbox import OutboxRow


@dataclass(frozen=True, slots=True)
class ReceivedBatch:
    """A received micro-batch; empty if the queue had no message. ``reading`` follows the messages of the batch."""

    batch: Sequence[Received] = ()
    known: Known = field(default_factory=Known)
    number: int = 0
    reading: ClockReading | None = None


@dataclass(frozen=True, slots=True)
class CommitBatch:
    """Effects of one micro-batch or of the clock. ``number`` is the micro-batch's, 0 for the clock."""

    effects: Effects
    batch: Sequence[Received] = ()
    number: int = 0


@dataclass(frozen=True, slots=True)
class Publication:
    """Messages to send, and the instant at which each one's input was sent: row id → microseconds since the epoch."""

    rows: Sequence[OutboxRow]
    sent_at: Mapping[str, int]
