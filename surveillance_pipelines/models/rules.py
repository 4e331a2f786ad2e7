"""Rules over features: the kinds of the warm-up rules, the floors, and the evidence that a kind needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.outputs import UNCLASSIFIED

Floats = npt.NDArray[np.float64]

Limits = tuple[tuple[str, float], ...]

TWO_SIDED: Final = frozenset({"gap_z", "return_z", "return_z_5", "return_z_15", "sign_balance_10", "divergence_z_15"})
"""Features that are compared by their absolute value."""

AROUND_THE_CLOCK_MINUTES: Final = 1_380.0
"""A session of at least 23 hours has no close that a trader could mark."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of anomaly and the features that must all reach their limits.

    Attributes:
        kind: the anomaly kind.
        limits: (feature, limit) pairs; for features in ``TWO_SIDED``, the absolute value is compared.
        last_minutes: the rule applies only in this many minutes before the close; None means always.
        at_most: (feature, limit) pairs of features that must not exceed their limits; a missing feature exceeds it.
        needs_close: whether the rule applies only in sessions shorter than ``AROUND_THE_CLOCK_MINUTES``.
    """

    kind: str
    limits: Limits
    last_minutes: float | None = None
    at_most: Limits = ()
    needs_close: bool = False


FLOORS: Final = (
    Rule("volume_spike", (("volume_z", 8.0),)),
    Rule("price_gap", (("gap_z", 20.0),), at_most=(("new_session", 0.0),)),
    Rule(UNCLASSIFIED, (("return_z", 20.0),), at_most=(("new_session", 0.0),)),
    Rule(UNCLASSIFIED, (("range_ratio", 25.0),), at_most=(("new_session", 0.0),)),
)
"""Bars that alert whatever the models say. The first bar of a session is excluded where the night explains the move."""

EVIDENCE: Final[Mapping[str, Rule]] = {
    rule.kind: rule
    for rule in (
        Rule("volume_spike", (("volume_z", 2.5),)),
        Rule("price_gap", (("gap_z", 3.0),)),
        Rule("price_volume_divergence", (("return_z_15", 2.0),), at_most=(("volume_z_5", 0.5),)),
        Rule("volatility_burst", (("volatility_ratio", 1.5), ("range_ratio", 1.5))),
        Rule("ramping", (("return_z_15", 2.0), ("sign_balance_10", 0.4))),
        Rule("pump_and_dump", (("return_z_15", 1.5), ("volume_z_5", 0.5))),
        Rule("marking_the_close", (("return_z_5", 1.5),), last_minutes=15.0, needs_close=True),
        Rule("momentum_ignition", (("return_z_5", 2.5), ("volume_z_5", 0.5))),
        Rule("cross_symbol_divergence", (("peers_present", 1.0), ("divergence_z_15", 2.0))),
    )
}
"""Kind → the least that a bar must show for the kind to be named."""


def strengths(features: Floats, rules: Sequence[Rule], columns: Sequence[str]) -> Floats:
    """Return float64[n, rules]: the smallest ratio of each rule's features to their limits, 0 where it does not apply.

    Args:
        features: float64[n, F], NaN for missing features, whose ratio is 0.
        rules: the rules.
        columns: names of the features, in order.
    """
    place = {name: position for position, name in enumerate(columns)}
    return np.column_stack([_strength(features, rule, place) for rule in rules])


def limit_ratio(values: Floats, name: str, limit: float) -> Floats:
    """Return the ratio of a feature to its limit, at least 0; 0 for a missing value."""
    sizes = np.abs(values) if name in TWO_SIDED else np.maximum(values, 0.0)
    return np.nan_to_num(sizes / limit, nan=0.0)


def _strength(features: Floats, rule: Rule, place: Mapping[str, int]) -> Floats:
    ratios = [limit_ratio(features[:, place[name]], name, limit) for name, limit in rule.limits]
    strength = np.minimum.reduce(ratios) if ratios else np.full(len(features), np.inf)
    for name, limit in rule.at_most:
        strength = np.where(features[:, place[name]] <= limit, strength, 0.0)
    if rule.last_minutes is None:
        return strength
    minutes = features[:, place["minutes_to_close"]]
    applies = (minutes > 0.0) & (minutes <= rule.last_minutes)
    if rule.needs_close:
        applies &= session_minutes(features, place) < AROUND_THE_CLOCK_MINUTES
    return np.where(applies, strength, 0.0)


def session_minutes(features: Floats, place: Mapping[str, int]) -> Floats:
    """Return the length of each bar's session in minutes; NaN without a session."""
    progress, left = features[:, place["session_progress"]], features[:, place["minutes_to_close"]]
    with np.errstate(divide="ignore", invalid="ignore"):
        return left / (1.0 - progress)
