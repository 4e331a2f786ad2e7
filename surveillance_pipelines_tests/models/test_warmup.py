import json

import numpy as np
import pytest

from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.explanations import explanation
from surveillance_pipelines.models.rules import TWO_SIDED, WARMUP_RULES
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines_tests.training.tiny_bundle import tiny_training_set


def row(**values: float) -> np.ndarray:
    features = np.zeros((1, len(CORE_V1.columns)))
    for name, value in values.items():
        features[0, CORE_V1.columns.index(name)] = value
    return features


def just_past(rule) -> np.ndarray:
    values = {name: (-1.01 if name in TWO_SIDED else 1.01) * limit for name, limit in rule.limits}
    return row(**values, minutes_to_close=5.0 if rule.last_minutes else 200.0)


def test_rules_cover_every_kind_once():
    assert sorted(rule.kind for rule in WARMUP_RULES) == sorted(ANOMALY_KINDS)


@pytest.mark.requirement("MOD-10", "INF-11")
@pytest.mark.parametrize("rule", WARMUP_RULES, ids=lambda rule: rule.kind)
def test_score_just_past_the_limits_of_a_rule_alerts(rule):
    scores = WarmupRules().predict(just_past(rule))
    assert scores.kinds == [rule.kind]
    assert scores.confidence[0] == scores.anomaly_score[0] == scores.probabilities[0, scores.labels.index(rule.kind)]


def test_score_of_little_volume_is_no_spike():
    assert WarmupRules().predict(row(volume_z=-20.0, minutes_to_close=200.0)).kinds == [NORMAL]


@pytest.mark.parametrize("rule", WARMUP_RULES, ids=lambda rule: rule.kind)
def test_score_with_one_feature_missing_does_not_alert_for_its_rule(rule):
    features = just_past(rule)
    features[0, CORE_V1.columns.index(rule.limits[0][0])] = np.nan
    assert WarmupRules().predict(features).kinds[0] != rule.kind


def test_score_of_a_quiet_bar_is_normal():
    scores = WarmupRules().predict(row(minutes_to_close=200.0))
    assert scores.kinds == [NORMAL]
    assert scores.anomaly_score[0] == 0.0


def test_score_of_missing_features_is_normal():
    scores = WarmupRules().predict(np.full((2, len(CORE_V1.columns)), np.nan))
    assert scores.kinds == [NORMAL, NORMAL]
    assert np.isfinite(scores.anomaly_score).all()


def test_score_marks_the_close_only_near_the_close():
    values = {"return_z": 6.0, "volume_z": 4.0}
    assert WarmupRules().predict(row(**values, minutes_to_close=5.0)).kinds == ["marking_the_close"]
    assert WarmupRules().predict(row(**values, minutes_to_close=60.0)).kinds == [NORMAL]


def test_score_row_by_row_equals_the_batch_bit_for_bit():
    rows = feature_matrix(tiny_training_set().rows("test").head(100), CORE_V1.columns)
    whole = WarmupRules().predict(rows)
    single = [WarmupRules().predict(rows[i : i + 1]) for i in range(len(rows))]
    np.testing.assert_array_equal(whole.anomaly_score, np.concatenate([scores.anomaly_score for scores in single]))
    assert whole.kinds == [scores.kinds[0] for scores in single]


def test_score_explains_itself_by_the_features_of_the_rule():
    scores = WarmupRules().predict(row(volume_z=9.0, minutes_to_close=200.0))
    told = json.loads(json.dumps(explanation(scores, 0), allow_nan=False))
    assert told["features"][0] == {"name": "volume_z", "value": 9.0, "share": 1.0}
    assert told["reconstruction_error"] is None


def test_score_of_ordinary_bars_alerts_rarely():
    rows = tiny_training_set().rows("train", labelled=True, original=True)
    rate = WarmupRules().predict(feature_matrix(rows, CORE_V1.columns)).is_anomaly.mean() * 390
    assert rate < 2.0
