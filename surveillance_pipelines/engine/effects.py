"""Everything that the shell must make durable for the engine, as rows. Instants are microseconds since the epoch, UTC.

Two runs over the same inputs give equal effects, however the inputs are split into micro-batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal

from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.contracts.outputs import Anomaly, Incident, OutputRow, Score, Signal, with_stamps
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.engine.snapshots import History

OutcomeName = Literal["scored", "late", "dead", "duplicate"]


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A raw message as received. ``event_time`` and ``symbol`` are None if it could not be decoded."""

    message: Received
    event_time: int | None
    symbol: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one message. ``dedup_id`` is the producer's, None if the queue derives it from the content."""

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
    as_of_bar_start: int | None  # the last bar included in the state
    day: date
    state: bytes


@dataclass(frozen=True, slots=True)
class LaneSeed:
    """The bars that a symbol's feature state was seeded from, kept as the starting point of a replay.

    ``as_of_bar_start`` is the last bar of ``history``, None if it is empty.
    """

    symbol: str
    feature_view: str
    calendar: str
    as_of_bar_start: int | None
    history: History


@dataclass(frozen=True, slots=True)
class ClockRow:
    """A reading of the queue's clock, between two messages, that closed bars; a replay closes the same bars.

    Attributes:
        queue_clock: the reading.
        recorded_at: the host's clock at that moment.
        symbols: the symbols whose bar in progress was closed.
    """

    queue_clock: int
    recorded_at: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BundleRow:
    """A change of the serving models, which score what these effects and later ones contain."""

    bundle_hash: str
    feature_view: str
    recorded_at: int


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """A change of a model's circuit breaker: taken out of service, tried again, or back in service."""

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
    """The ids of a micro-batch that already have a ledger row.

    Attributes:
        message_ids: ids that the queue gave.
        dedup_ids: the producer's ids → content of the message that had it first (``repeats.kept_content``); None if it
            is not stored any more.
    """

    message_ids: frozenset[str] = frozenset()
    dedup_ids: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(slots=True)
class Effects:
    """The effects of a micro-batch or a clock row.

    Attributes:
        inbox: raw messages, in the order in which they were processed.
        outcomes: one per inbox row.
        redelivered: ids of messages that already have a ledger row or get one with these effects; only to be deleted.
        outputs: every output row in the order of its cause, which is the order of publication.
        scored: number of bars scored, in progress or closed.
        fallbacks: number of those for which a fallback replaced an input or a model.
        computed_at: when the engine finished; set by the shell.
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
    def incidents(self) -> list[Incident]:
        return [row for row in self.outputs if isinstance(row, Incident)]

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
        """Return whether there is nothing to make durable; redelivered messages alone count as nothing."""
        return not (self.inbox or self.clock_rows or self.states)

    def count(self, outcome: OutcomeName) -> int:
        return sum(row.outcome == outcome for row in self.outcomes)

    def stamped(self, *, committed_at: int) -> "Effects":
        """Return the same effects with ``t_computed`` and ``t_committed`` set on the output rows."""
        computed_at = committed_at if self.computed_at is None else self.computed_at
        outputs = [with_stamps(row, t_computed=computed_at, t_committed=committed_at) for row in self.outputs]
        return replace(self, outputs=outputs)
