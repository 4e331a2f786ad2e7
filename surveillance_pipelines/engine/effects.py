"""Everything the engine asks the shell to make durable, as plain rows. Instants are microseconds since the epoch, UTC.

``Effects`` is a value: two runs over the same inputs give equal effects, whatever the micro-batches were.
"""

from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.contracts.outputs import Anomaly, OutputRow, Score, Signal
from surveillance_pipelines.contracts.queue import Received

OutcomeName = Literal["scored", "late", "dead", "duplicate"]


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A raw message, kept before anything is made of it. ``event_time`` and ``symbol`` are None if it has none."""

    message: Received
    event_time: int | None
    symbol: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one input ended. ``dedup_id`` is the producer's, None where the queue derives it from content."""

    message_id: str
    dedup_id: str | None
    outcome: OutcomeName
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    message_id: str
    body: str
    code: str
    reason: str
    received_at: int


@dataclass(frozen=True, slots=True)
class StateRow:
    """A snapshot of one symbol under one name (a feature view, or the serving state)."""

    symbol: str
    name: str
    as_of_bar_start: int | None  # the last bar that the state has seen
    day: date
    state: bytes


@dataclass(frozen=True, slots=True)
class LaneSeed:
    """The bars from which a symbol's features went on here, kept so that a replay can start from them.

    ``history`` is what ``snapshots.dump_history`` wrote; ``as_of_bar_start`` is the last bar in it, None for none.
    """

    symbol: str
    feature_view: str
    calendar: str
    as_of_bar_start: int | None
    history: bytes


@dataclass(frozen=True, slots=True)
class ClockRow:
    """The event clock was read here, between two messages, and closed bars; a replay closes the same ones."""

    event_clock: int
    recorded_at: int


@dataclass(frozen=True, slots=True)
class BundleRow:
    """These models score from here on: the message or clock reading that comes with it is the first."""

    bundle_hash: str
    feature_view: str
    recorded_at: int


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """A model was taken out of service, is tried again, or is back."""

    model: str
    state: Literal["open", "half_open", "closed"]
    reason: str
    at: int


@dataclass(frozen=True, slots=True)
class NewInstrument:
    symbol: str
    calendar: str


@dataclass(frozen=True, slots=True)
class Known:
    """Which of a micro-batch's ids already have a ledger row."""

    message_ids: frozenset[str] = frozenset()
    dedup_ids: frozenset[str] = frozenset()


@dataclass(slots=True)
class Effects:
    """What a micro-batch or a clock row causes.

    Attributes:
        inbox: raw messages, in the order they were taken.
        outcomes: one per inbox row.
        redelivered: message ids that had a ledger row already, or have one coming: nothing happens but their deletion.
        outputs: every output row in the order of its cause, which is the order on the wire.
        scored: how many bars, in progress or closed, the models were asked about.
        fallbacks: for how many of them an input was replaced by a substitute.
        computed_at: when the engine was done; the shell's to set.
    """

    inbox: list[InboxRow] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    redelivered: list[str] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    instruments: list[NewInstrument] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    states: list[StateRow] = field(default_factory=list)
    seeds: list[LaneSeed] = field(default_factory=list)
    clock_rows: list[ClockRow] = field(default_factory=list)
    bundles: list[BundleRow] = field(default_factory=list)
    breakers: list[BreakerEvent] = field(default_factory=list)
    outputs: list[OutputRow] = field(default_factory=list)
    scored: int = 0
    fallbacks: int = 0
    computed_at: int | None = None

    @property
    def anomalies(self) -> list[Anomaly]:
        return [row for row in self.outputs if isinstance(row, Anomaly)]

    @property
    def signals(self) -> list[Signal]:
        return [row for row in self.outputs if isinstance(row, Signal)]

    @property
    def scores(self) -> list[Score]:
        return [row for row in self.outputs if isinstance(row, Score)]

    @property
    def predictions(self) -> list[Score]:
        """Scores of final bars: the rows of ``surveillance.predictions``."""
        return [row for row in self.scores if row.bar_status == "final"]

    def is_empty(self) -> bool:
        """Say whether there is nothing to make durable; redelivered messages have nothing."""
        return not (self.inbox or self.clock_rows)

    def count(self, outcome: OutcomeName) -> int:
        return sum(row.outcome == outcome for row in self.outcomes)

    def stamped(self, *, committed_at: int) -> "Effects":
        """Return the same effects with the instants only the shell knows written on their output rows."""
        computed_at = committed_at if self.computed_at is None else self.computed_at
        outputs = [replace(row, t_computed=computed_at, t_committed=committed_at) for row in self.outputs]
        return replace(self, outputs=outputs)
