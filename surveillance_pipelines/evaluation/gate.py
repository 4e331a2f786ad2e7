"""The gates: rules that decide whether a model serves, each with a reason. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.evaluation.metrics import balanced_accuracy, block_bootstrap_interval, side_accuracy

CONFIDENCE: Final = 0.95

MIN_P_VALUE: Final = 0.01
"""A kind counts as found less often than by the rules if this p-value is not reached; nine kinds are tested."""

MIN_DIRECTION_DAYS: Final = 5
"""Minimum number of test days of a direction model. With fewer, its interval is not meaningful, because results vary
between days rather than minutes."""


@dataclass(frozen=True, slots=True)
class GateRule:
    """One rule of a gate, its measured value and its limit.

    Attributes:
        name: stable name, shown in checks and tables.
        value: the measured value.
        limit: the value to reach, to exceed if ``strict``, or not to exceed if ``at_most``.
        strict: whether the value must exceed the limit.
        at_most: whether the limit is the largest accepted value.
    """

    name: str
    value: float
    limit: float
    strict: bool = False
    at_most: bool = False

    @property
    def passed(self) -> bool:
        """Whether the rule holds; always False for NaN."""
        if self.at_most:
            return self.value <= self.limit
        return self.value > self.limit if self.strict else self.value >= self.limit

    def __str__(self) -> str:
        verdict = "holds" if self.passed else "fails"
        needs = "at most" if self.at_most else "more than" if self.strict else "at least"
        return f"{self.name} {verdict}: {_readable(self.value)}, needs {needs} {_readable(self.limit)}"


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The decision over several rules, which passes if all of them hold."""

    rules: tuple[GateRule, ...]

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)

    @property
    def reasons(self) -> tuple[str, ...]:
        """A sentence per rule, failed rules first."""
        return tuple(str(rule) for rule in sorted(self.rules, key=lambda rule: rule.passed))


def _readable(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() and abs(value) > 1 else f"{value:.3f}"


def anomaly_gate(
    *,
    rows: int,
    min_rows: int,
    accuracy: float,
    balanced: float,
    min_accuracy: float,
    majority_accuracy: float,
    warmup_balanced: float,
    pr_auc: float,
    robust_z_pr_auc: float,
    alert_rate: float,
    budget: float,
    worse_than_rules: Mapping[str, float],
) -> GateDecision:
    """Evaluate the gate of an anomaly classifier on its test days.

    A model that predicts "ordinary" for every bar would pass on accuracy alone, so the class-balanced accuracy has to
    reach the same threshold. The naive baselines are the most frequent class, the warm-up rules that the model would
    replace, and the largest robust z-score of the bar. Two promises are tested: the alert budget, and that no kind is
    found less often than by the warm-up rules. Both rules allow for chance, so that they block clear breaches only.

    Args:
        rows: number of training rows.
        min_rows: ``MODEL_TRAINING_MIN_DATASET_SIZE``.
        accuracy: accuracy over all labelled test bars.
        balanced: mean recall of the classes.
        min_accuracy: ``MODEL_QUALITY_THRESHOLD_ACCURACY``.
        majority_accuracy: accuracy of always predicting the most frequent class.
        warmup_balanced: balanced accuracy of the warm-up rules.
        pr_auc: average precision of the anomaly score.
        robust_z_pr_auc: average precision of the largest robust z-score.
        alert_rate: lower bound of the 98% interval of alert episodes per symbol and ordinary day.
        budget: promised alerts per symbol and ordinary day; an episode has at least one.
        worse_than_rules: kind → p-value of the test that the bundle finds it at least as often as the warm-up rules.
    """
    return GateDecision(
        (
            GateRule("training_rows", float(rows), float(min_rows)),
            GateRule("accuracy", accuracy, min_accuracy),
            GateRule("accuracy_over_majority", accuracy, majority_accuracy, strict=True),
            GateRule("balanced_accuracy", balanced, min_accuracy),
            GateRule("balanced_accuracy_over_warmup_rules", balanced, warmup_balanced, strict=True),
            GateRule("pr_auc_over_robust_z", pr_auc, robust_z_pr_auc, strict=True),
            GateRule("alert_episodes_per_symbol_day_lower_bound", alert_rate, budget, at_most=True),
            *(
                GateRule(f"not_worse_than_rules_on_{kind}_p_value", value, MIN_P_VALUE)
                for kind, value in worse_than_rules.items()
            ),
        )
    )


def direction_gate(
    actual: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    blocks: npt.NDArray[np.generic],
    *,
    classes: int,
    seed: int,
) -> GateDecision:
    """Evaluate the gate of a direction model: its balanced accuracy and choice of side must beat a constant prediction.

    The rules use the lower bounds of the 95% intervals. Predicting quiet periods from volatility is enough for a good
    balanced accuracy; therefore the side must also be correct in more than half of the predicted moves. Minutes of one
    day are dependent, so the bootstrap draws whole days.

    Args:
        actual: class numbers int64[n].
        predicted: predicted class numbers int64[n].
        blocks: the day of each row, any dtype, [n].
        classes: number of classes; a constant prediction has a balanced accuracy of 1 / classes.
        seed: seed of the bootstrap.
    """
    low, _ = block_bootstrap_interval(
        lambda rows: balanced_accuracy(actual[rows], predicted[rows]), blocks, confidence=CONFIDENCE, seed=seed
    )
    side, _ = block_bootstrap_interval(
        lambda rows: side_accuracy(actual[rows], predicted[rows]), blocks, confidence=CONFIDENCE, seed=seed
    )
    return GateDecision(
        (
            GateRule("test_days", float(len(np.unique(blocks))), float(MIN_DIRECTION_DAYS)),
            GateRule("balanced_accuracy_lower_bound", low, 1.0 / classes, strict=True),
            GateRule("side_accuracy_lower_bound", side, 0.5, strict=True),
        )
    )
