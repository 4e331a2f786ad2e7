"""Rules over features: the warm-up rules, the floors, and the evidence that a kind needs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.outputs import UNCLASSIFIED
from surveillance_pipelines.models.kernel_calls import AT_MOST, BEFORE_CLOSE, RATIO, call
from surveillance_pipelines.models.session_phase import AROUND_THE_CLOCK_MINUTES, PHASE_COLUMNS

Floats = npt.NDArray[np.float64]

Limits = tuple[tuple[str, float], ...]

TWO_SIDED: Final = frozenset({"gap_z", "return_z", "return_z_5", "return_z_15", "sign_balance_10", "divergence_z_15"})
"""Features that are compared by their absolute value."""


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


_NOT_AT_THE_OPEN: Final[Limits] = (("new_session", 0.0),)

WARMUP_RULES: Final = (
    Rule("volume_spike", (("volume_z", 5.0),)),
    Rule("price_gap", (("gap_z", 8.0),)),
    Rule("price_volume_divergence", (("price_volume_divergence", 8.0), ("return_z", 6.0))),
    Rule("volatility_burst", (("volatility_ratio", 4.0), ("range_ratio", 4.0))),
    Rule("ramping", (("sign_balance_10", 0.9), ("return_z_15", 5.0))),
    Rule("pump_and_dump", (("round_trip_30", 3.0), ("return_z_15", 2.0))),
    Rule("marking_the_close", (("return_z", 5.0), ("volume_z", 3.0)), last_minutes=10.0),
    Rule("momentum_ignition", (("return_z_5", 6.0), ("volume_z_5", 2.0))),
    Rule("cross_symbol_divergence", (("divergence_z_15", 9.0), ("return_z_15", 4.0))),
)
"""Rules that serve until a model has passed its gate, one per kind (``models/warmup.py``)."""

NAMING_RULES: Final = tuple(
    replace(rule, at_most=_NOT_AT_THE_OPEN) if rule.kind == "price_volume_divergence" else rule for rule in WARMUP_RULES
)
"""Rules that name the kind of an anomalous bar. The move over night is a price gap, whatever the first bar's volume."""

FLOORS: Final = (
    Rule("volume_spike", (("volume_z", 8.0),)),
    Rule("price_gap", (("gap_z", 20.0),), at_most=_NOT_AT_THE_OPEN),
    Rule(UNCLASSIFIED, (("return_z", 20.0),), at_most=_NOT_AT_THE_OPEN),
    Rule(UNCLASSIFIED, (("range_ratio", 25.0),), at_most=_NOT_AT_THE_OPEN),
)
"""Bars that alert whatever the models say. The first bar of a session is excluded where the night explains the move."""

EVIDENCE: Final[Mapping[str, Rule]] = {
    rule.kind: rule
    for rule in (
        Rule("volume_spike", (("volume_z", 2.5),)),
        Rule("price_gap", (("gap_z", 3.0),)),
        Rule("price_volume_divergence", (("return_z_15", 2.0),), at_most=(("volume_z_5", 0.5), *_NOT_AT_THE_OPEN)),
        Rule("volatility_burst", (("volatility_ratio", 1.5), ("range_ratio", 1.5))),
        Rule("ramping", (("return_z_15", 2.0), ("sign_balance_10", 0.4))),
        Rule("pump_and_dump", (("return_z_15", 1.5), ("volume_z_5", 0.5))),
        Rule("marking_the_close", (("return_z_5", 1.5),), last_minutes=15.0, needs_close=True),
        Rule("momentum_ignition", (("return_z_5", 2.5), ("volume_z_5", 0.5))),
        Rule("cross_symbol_divergence", (("peers_present", 1.0), ("divergence_z_15", 2.0))),
    )
}
"""Kind → the least that a bar must show for the kind to be named."""


class RuleSet:
    """Rules prepared for the columns of a feature view, as one table that compiled code evaluates."""

    def __init__(self, rules: Sequence[Rule], columns: Sequence[str]) -> None:
        place = {name: position for position, name in enumerate(columns)}
        self._count: Final = len(rules)
        rows = [row for number, rule in enumerate(rules) for row in _table_rows(number, rule, place)]
        self._table: Final = np.array(rows, dtype=np.float64).reshape(len(rows), 5)
        self._clock: Final = np.array([place[name] for name in PHASE_COLUMNS], dtype=np.int64)

    def strengths(self, features: Floats) -> Floats:
        """Return float64[n, rules]: the smallest ratio of each rule's features to their limits.

        It is 0 where the rule does not apply, and infinite for a rule without limits.

        Args:
            features: float64[n, F], NaN for missing features, whose ratio is 0.
        """
        found = np.empty((len(features), self._count))
        call("strengths", np.ascontiguousarray(features), self._table, self._clock, AROUND_THE_CLOCK_MINUTES, found)
        return found

    def evidence(self, features: Floats, chosen: npt.NDArray[np.intp]) -> Floats:
        """Return, per row, the ratio to its limit of each feature of one rule; 0 for other features, float64[n, F].

        Args:
            features: float64[n, F].
            chosen: position of each row's rule, int64[n].
        """
        found = np.empty(features.shape)
        call("rule_evidence", np.ascontiguousarray(features), self._table, chosen.astype(np.int64, copy=False), found)
        return found


def _table_rows(number: int, rule: Rule, place: Mapping[str, int]) -> Iterator[tuple[float, ...]]:
    """Yield the rows of one rule in the table that ``score_kernel.strengths`` reads."""
    for name, limit in rule.limits:
        yield RATIO, number, place[name], limit, float(name in TWO_SIDED)
    for name, limit in rule.at_most:
        yield AT_MOST, number, place[name], limit, 0.0
    if rule.last_minutes is not None:
        yield BEFORE_CLOSE, number, -1, rule.last_minutes, float(rule.needs_close)


@cache
def rule_set(rules: tuple[Rule, ...], columns: tuple[str, ...]) -> RuleSet:
    """Return the rules prepared for columns; each pair is prepared once."""
    return RuleSet(rules, columns)


def strengths(features: Floats, rules: tuple[Rule, ...], columns: tuple[str, ...]) -> Floats:
    """Return ``RuleSet.strengths`` of rules for features with these columns."""
    return rule_set(rules, columns).strengths(features)
