"""Which fault strikes where: drawn by seed at every call that a process makes to a queue or the database."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

OutageKind = Literal["commits", "database"]
QueueOutageKind = Literal["input queue", "slow input queue"]
Kind = Literal["crash", "error", "stall", "freeze", "clock"]
Moment = Literal["before", "after"]

QUEUE_OUTAGE_KINDS: Final[tuple[QueueOutageKind, ...]] = get_args(QueueOutageKind)
OUTAGE_KINDS: Final[tuple[OutageKind, ...]] = get_args(OutageKind)

STALL_SECONDS: Final = (1.5, 30.0, 75.0, 361.0)
"""Shorter than the lease; longer than it; longer than the visibility; longer than SQS remembers a deduplication id."""

SLOW_ANSWER_SECONDS: Final = 30.0
"""Longer than the initial visibility timeout, and shorter than the longest."""

KILLS_IN_OUTAGE: Final = 0.01
"""Probability that a call which the database refuses is the last one of its process."""

DEDUP_STALL: Final = STALL_SECONDS[-1]

_KINDS: Final[dict[Kind, float]] = {"crash": 0.4, "error": 0.2, "stall": 0.16, "freeze": 0.16, "clock": 0.08}


class OutageError(ConnectionError):
    """The other side did not answer; whether it did what was asked is unknown."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call. ``seconds`` is how long a stall lasts or how far a clock steps."""

    kind: Kind
    moment: Moment
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the database refuses commits or every call, or the input queue fails or delays every call.

    Attributes:
        kind: what fails.
        begin: when it begins, as a share of the time in which producers send.
        seconds: how long it lasts.
    """

    kind: OutageKind | QueueOutageKind
    begin: float
    seconds: float


@dataclass
class FaultPlan:
    """The faults of one schedule.

    Attributes:
        seed: decides all of them.
        enabled: without, nothing ever goes wrong.
        seen: how often each kind struck at each site, for the report of what a proof has covered.
        trace: the same in order, for a person who looks at one seed.
    """

    seed: int
    enabled: bool = True
    name: str = "faults"  # another name draws other faults
    seen: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.name} {self.seed}")
        self._rate = self._random.choice((0.01, 0.03, 0.08, 0.2))
        self._left = self._random.randint(1, 10) if self.enabled else 0
        self._outage_random = random.Random(f"outage {self.name} {self.seed}")
        self.outage = self._outage(self._outage_random, 0.3, OUTAGE_KINDS, (5.0, 60.0, 300.0))
        self._queue_random = random.Random(f"queue outage {self.name} {self.seed}")
        self.queue_outage = self._outage(self._queue_random, 0.2, QUEUE_OUTAGE_KINDS, (5.0, 60.0, 600.0))

    def _outage(
        self, rng: random.Random, chance: float, kinds: Sequence[OutageKind | QueueOutageKind], seconds: Sequence[float]
    ) -> Outage | None:
        """Return an outage of the schedule, or None, drawn apart from the other faults."""
        if not self.enabled or rng.random() >= chance:
            return None
        outage = Outage(rng.choice(kinds), rng.random(), rng.choice(seconds))
        self.note(f"outage for {outage.seconds:g} s: {outage.kind}", f"outage of {outage.kind}")
        return outage

    def loses_answer(self) -> bool:
        """Return whether the first call of an outage of the database takes effect although it fails."""
        return self._outage_random.random() < 0.7

    def queue_loses_answer(self) -> bool:
        """Return whether a call during an outage of the input queue takes effect although it fails."""
        return self._queue_random.random() < 0.5

    def kills_in_outage(self) -> bool:
        """Return whether a process that waits for the database is killed now."""
        return self._outage_random.random() < KILLS_IN_OUTAGE

    def host_clock(self) -> float:
        """Return how far the clock of the next process's host is off, in seconds."""
        if not self.enabled or self._random.random() >= 0.15:
            return 0.0
        seconds = self._random.choice((-360.0, -20.0, 20.0, 360.0))
        self.note(f"host clock is {seconds:+g} s off", "host clock off")
        return seconds

    def at(self, site: str) -> Fault | None:
        """Return what goes wrong with a call, None for nothing."""
        if not self._strikes():
            return None
        kind = self._random.choices(list(_KINDS), list(_KINDS.values()))[0]
        seconds = self._seconds(kind)
        fault = Fault(kind, self._random.choice(("before", "after")), seconds)
        self.note(f"{site}: {kind} {fault.moment}" + (f" {seconds:g} s" if seconds else ""), f"{kind} at {site}")
        if kind == "stall" and seconds == DEDUP_STALL and site == "send":
            self.seen["publication stalled for 6 minutes"] += 1
        return fault

    def refused(self, site: str, count: int) -> frozenset[int]:
        """Return which entries of a batch call the queue does not accept."""
        if not self._strikes():
            return frozenset()
        chosen = self._random.sample(range(count), self._random.randint(1, count))
        self.note(f"{site}: refuses entries {sorted(chosen)} of {count}", f"partial failure of {site}")
        return frozenset(chosen)

    def forgets(self, what: str) -> bool:
        """Say whether the queue forgets something that it has promised: a visibility timeout, a deletion."""
        forgets = self._strikes() and self._random.random() < 0.5
        if forgets:
            self.note(f"queue forgets {what}", f"forgotten {what}")
        return forgets

    def slow_commit(self) -> float:
        """Return how many seconds a transaction stays open before it commits."""
        if not self._strikes():
            return 0.0
        seconds = self._random.choice(STALL_SECONDS[:3])
        self.note(f"commit takes {seconds:g} s", "slow commit")
        return seconds

    def restart_delay(self) -> float:
        """Return after how many seconds the next contender for the lease is there."""
        if not self.enabled:
            return 0.1
        return self._random.choices((0.2, 2.0, 15.0, DEDUP_STALL), (6, 3, 2, 1))[0]

    def note(self, line: str, seen: str) -> None:
        self.trace.append(line)
        self.seen[seen] += 1

    def _seconds(self, kind: Kind) -> float:
        if kind == "stall":
            return self._random.choices(STALL_SECONDS, (2, 4, 2, 2))[0]
        return self._random.uniform(-90.0, 90.0) if kind == "clock" else 0.0

    def _strikes(self) -> bool:
        if self._left == 0 or self._random.random() >= self._rate:
            return False
        self._left -= 1
        return True
