"""The paired test of a challenger against the champion: found and missed events of equal copies. No I/O.

Both bundles see the same planted events on the same held-out days, each within the alert budget
(``paired_events.py``). Only the events that one of the two finds distinguish them. The test conditions on these days:
its events are independent draws of the generator, its days are not, so it says which bundle finds more *there*.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy.special import ndtr

from surveillance_pipelines.evaluation.gate import GateDecision, GateRule
from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY

EVENTS: Final = 1_600
"""Number of events that ``paired_events.py`` plants. If the two bundles disagree on at most a fifth of the events, a
challenger that finds 5 percentage points more passes with a probability of 95%, one that finds 4 more with 76%."""

MIN_GAIN: Final = 0.01
"""A difference in recall up to this one counts as equal, because a promotion has a cost. Trainings that differ in their
seed can differ by more; then one of them is better on these days."""

NOT_WORSE: Final = 0.02
"""Loss of recall up to which a challenger counts as not worse, where the champion should not stay."""

LEVEL: Final = 0.025
"""Probability to promote a challenger whose true gain is exactly ``MIN_GAIN``; below, it is smaller."""

FLOOD_BUDGETS: Final = 2.0
FLOOD_FACTOR: Final = 1.5
"""A bundle floods if, on the unchanged days, it alerts more than ``FLOOD_BUDGETS`` times the budget and more than
``FLOOD_FACTOR`` times the other bundle. Unchanged days hold real events, on which both alert. The gate counts episodes
and does not see a flood, because alerts without a pause are one episode."""

KIND_LOSS: Final = 0.05
"""Loss of recall on a single kind up to which it counts as not lost."""

KINDS_LEVEL: Final = 0.01
"""Probability, over all kinds together, to refuse a challenger that loses ``KIND_LOSS`` on each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedCounts:
    """Events of one kind, or of all.

    Attributes:
        events: number of events.
        gained: events that only the challenger finds.
        lost: events that only the champion finds.
        both: events that both find.
    """

    events: int
    gained: int
    lost: int
    both: int = 0

    def __post_init__(self) -> None:
        if min(self.gained, self.lost, self.both) < 0 or self.gained + self.lost + self.both > self.events:
            raise ValueError(f"expected counts of at most {self.events} events together, got {self}")

    def __add__(self, other: "PairedCounts") -> "PairedCounts":
        return PairedCounts(
            events=self.events + other.events,
            gained=self.gained + other.gained,
            lost=self.lost + other.lost,
            both=self.both + other.both,
        )

    @property
    def gain(self) -> float:
        """Recall of the challenger minus that of the champion; 0 without events."""
        return (self.gained - self.lost) / self.events if self.events else 0.0

    @property
    def challenger_recall(self) -> float:
        return (self.gained + self.both) / self.events if self.events else 0.0

    @property
    def champion_recall(self) -> float:
        return (self.lost + self.both) / self.events if self.events else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """A challenger compared with the champion.

    Attributes:
        kinds: kind → its counts.
        better: whether the challenger is better, the condition of a promotion.
        not_worse: whether it is not worse, which suffices if the champion should not stay.
    """

    kinds: Mapping[str, PairedCounts]
    better: GateDecision
    not_worse: GateDecision = field(default_factory=lambda: GateDecision(()))

    @property
    def counts(self) -> PairedCounts:
        return total(self.kinds.values())


def total(counts: Iterable[PairedCounts]) -> PairedCounts:
    """Return the sum of counts."""
    return sum(counts, PairedCounts(events=0, gained=0, lost=0))


def alert_limit(other: float) -> float:
    """Return the alerts per symbol and day above which a bundle floods, given those of the other bundle."""
    return max(FLOOD_BUDGETS * ALERTS_PER_SYMBOL_DAY, FLOOD_FACTOR * other)


def compare(kinds: Mapping[str, PairedCounts], *, alerts: float = 0.0, champion_alerts: float = 0.0) -> PairedTest:
    """Test whether a challenger is better than the champion, and whether it is not worse.

    It is better if its recall is higher by more than ``MIN_GAIN`` at the one-sided ``LEVEL`` (``gain_p_value``); it is
    not worse if its recall is not lower by ``NOT_WORSE`` at the same level. In both cases no kind may be clearly lost
    (``kind_p_value`` of at least ``KINDS_LEVEL`` divided by the number of kinds), and the challenger must not flood.
    Without events, neither holds.

    Args:
        kinds: kind → its counts.
        alerts: alerts of the challenger per symbol and 390 unchanged bars, as served.
        champion_alerts: those of the champion.
    """
    counts = total(kinds.values())
    limit = KINDS_LEVEL / max(len(kinds), 1)
    others = (
        GateRule("alerts_per_unchanged_symbol_day", alerts, alert_limit(champion_alerts), at_most=True),
        *(
            GateRule(f"not_worse_than_champion_on_{kind}_p_value", kind_p_value(found), limit)
            for kind, found in sorted(kinds.items())
        ),
    )
    better = GateRule("gain_over_champion_p_value", gain_p_value(counts, MIN_GAIN), LEVEL, at_most=True)
    not_worse = GateRule("loss_to_champion_p_value", gain_p_value(counts, -NOT_WORSE), LEVEL, at_most=True)
    return PairedTest(kinds=kinds, better=GateDecision((better, *others)), not_worse=GateDecision((not_worse, *others)))


def gain_p_value(counts: PairedCounts, gain: float) -> float:
    """Return the one-sided p-value of "the true gain of recall is at most ``gain``"; 1 without events.

    The score test of a difference between paired proportions (Tango, "Equivalence test and confidence interval for the
    difference in proportions for the paired-sample design", Statistics in Medicine 17, 1998). With a gain of 0 it is
    McNemar's test without continuity correction.

    Args:
        counts: counts of the events.
        gain: gain at the border of the null hypothesis, above −1 and below 1.
    """
    n, gained, lost = counts.events, counts.gained, counts.lost
    if n == 0:
        return 1.0
    # The likelihood of the three outcomes has its maximum under gained − lost = gain at this share of lost events.
    b = -gained - lost + (2 * n - gained + lost) * gain
    c = -lost * gain * (1.0 - gain)
    share = max((np.sqrt(b * b - 8 * n * c) - b) / (4 * n), -gain, 0.0)
    variance = n * (2 * share + gain * (1.0 - gain))
    distance = gained - lost - n * gain
    if variance <= 0.0:
        return 0.0 if distance > 0 else 1.0
    return float(ndtr(-distance / np.sqrt(variance)))


def kind_p_value(counts: PairedCounts) -> float:
    """Return the p-value of "the challenger loses at most ``KIND_LOSS`` of the recall on this kind"."""
    swapped = PairedCounts(events=counts.events, gained=counts.lost, lost=counts.gained, both=counts.both)
    return gain_p_value(swapped, KIND_LOSS)
