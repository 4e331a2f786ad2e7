import numpy as np
import pytest

from surveillance_pipelines.evaluation.gate import GateDecision, GateRule, anomaly_gate, direction_gate

GOOD = {
    "rows": 5_000,
    "min_rows": 1_000,
    "accuracy": 0.95,
    "balanced": 0.8,
    "min_accuracy": 0.75,
    "majority_accuracy": 0.9,
    "warmup_balanced": 0.3,
    "pr_auc": 0.8,
    "robust_z_pr_auc": 0.5,
    "alert_rate": 0.9,
    "budget": 1.0,
    "worse_than_rules": {"ramping": 0.4, "price_gap": 1.0},
}


def directions(days: int, skill: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    actual = random.integers(0, 3, days * 300)
    called = np.where(random.random(len(actual)) < skill, actual, random.integers(0, 3, len(actual)))
    return actual, called, np.repeat(np.arange(days), 300)


@pytest.mark.requirement("TRN-04")
def test_anomaly_gate_of_a_good_model_passes():
    assert anomaly_gate(**GOOD).passed


@pytest.mark.requirement("TRN-02", "TRN-04", "NUM-002-min-rows-1000", "NUM-002-accuracy-0.75")
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"rows": 999}, "training_rows"),
        ({"accuracy": 0.74, "majority_accuracy": 0.5}, "accuracy"),
        ({"majority_accuracy": 0.95}, "accuracy_over_majority"),
        ({"balanced": 0.749}, "balanced_accuracy"),
        ({"warmup_balanced": 0.8}, "balanced_accuracy_over_warmup_rules"),
        ({"robust_z_pr_auc": 0.8}, "pr_auc_over_robust_z"),
        ({"pr_auc": float("nan")}, "pr_auc_over_robust_z"),
        ({"alert_rate": 1.01}, "alert_episodes_per_symbol_day_lower_bound"),
        ({"alert_rate": float("nan")}, "alert_episodes_per_symbol_day_lower_bound"),
        ({"worse_than_rules": {"ramping": 0.009, "price_gap": 1.0}}, "not_worse_than_rules_on_ramping_p_value"),
    ],
)
def test_anomaly_gate_with_one_failed_rule_fails_and_lists_it_first(change, rule):
    decision = anomaly_gate(**{**GOOD, **change})
    assert not decision.passed
    assert [broken.name for broken in decision.rules if not broken.passed] == [rule]
    assert decision.reasons[0].startswith(f"{rule} fails")


def test_gate_rule_text_has_value_and_limit():
    assert str(GateRule("training_rows", 28_400.0, 1_000.0)) == "training_rows holds: 28,400, needs at least 1,000"
    assert str(GateRule("rate", 1.5, 1.0, at_most=True)) == "rate fails: 1.500, needs at most 1.000"
    assert str(GateRule("edge", 0.5, 0.5, strict=True)) == "edge fails: 0.500, needs more than 0.500"


def test_gate_decision_without_rules_passes():
    assert GateDecision(()).passed


def test_direction_gate_of_a_skilful_model_passes():
    actual, called, days = directions(8, 0.3)
    assert direction_gate(actual, called, days, classes=3, seed=1).passed


def test_direction_gate_of_random_calls_fails():
    actual, called, days = directions(8, 0.0)
    assert not direction_gate(actual, called, days, classes=3, seed=1).passed


def test_direction_gate_of_a_model_that_only_predicts_quiet_periods_fails():
    actual, _, days = directions(8, 0.0)
    random = np.random.default_rng(5)
    called = np.where(actual == 1, 1, random.choice([0, 2], len(actual)))
    decision = direction_gate(actual, called, days, classes=3, seed=1)
    assert [rule.name for rule in decision.rules if not rule.passed] == ["side_accuracy_lower_bound"]


def test_direction_gate_of_few_days_fails():
    actual, called, days = directions(4, 0.5)
    decision = direction_gate(actual, called, days, classes=3, seed=1)
    assert [rule.name for rule in decision.rules if not rule.passed] == ["test_days"]


def test_direction_gate_without_rows_fails():
    nothing = np.empty(0, dtype=np.int64)
    assert not direction_gate(nothing, nothing, nothing, classes=3, seed=1).passed
