import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surveillance_pipelines.contracts.outputs import UNCLASSIFIED
from surveillance_pipelines.contracts.predictions import NORMAL, AnomalyKinds
from surveillance_pipelines.features.batch import features_of_days
from surveillance_pipelines.features.matrix import feature_matrix
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.market.bar_frames import complete_bars
from surveillance_pipelines.models.bundle import BundleError
from surveillance_pipelines.models.bundle_predictions import concatenate, top_contributions
from surveillance_pipelines.models.calibration import THRESHOLD, calibrated, centred_on_threshold
from surveillance_pipelines.models.explanations import explanation
from surveillance_pipelines.models.fusion import name_kinds
from surveillance_pipelines.models.kinds import load_model
from surveillance_pipelines.models.runtime import runtime_hash
from surveillance_pipelines.training.training_data import LABELS
from surveillance_pipelines_tests.training.tiny_bundle import tiny_market, tiny_training_set

ARRAYS = (
    "anomaly_score", "confidence", "kind_codes", "detector_scores", "probabilities", "top_features", "top_shares",
    "top_values", "direction_probabilities",
)  # fmt: skip


def features(rows: int) -> np.ndarray:
    frame = tiny_training_set().rows("test")
    return feature_matrix(frame.sample(rows, seed=3), CORE_V1.columns)


def assert_equal_bits(whole, parts) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name), err_msg=name)
    np.testing.assert_array_equal(whole.statistic("reconstruction_error"), parts.statistic("reconstruction_error"))


@pytest.mark.requirement("MOD-01", "MOD-02", "INF-01")
def test_predict_row_by_row_equals_the_batch_bit_for_bit(scorer):
    rows = features(200)
    assert_equal_bits(scorer.predict(rows), concatenate([scorer.predict(rows[i : i + 1]) for i in range(len(rows))]))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 300), max_size=12))
def test_predict_of_any_split_equals_the_batch_bit_for_bit(scorer, cuts):
    rows = features(300)
    borders = [0, *sorted(set(cuts) - {0, 300}), 300]
    parts = [scorer.predict(rows[a:b]) for a, b in pairwise(borders)]
    assert_equal_bits(scorer.predict(rows), concatenate(parts))


@pytest.mark.shared_data
def test_predict_of_real_bars_row_by_row_equals_the_batch_bit_for_bit(scorer, shared_data):
    raw = pl.scan_parquet(shared_data / "equity_minute" / "lean_minute_trade.parquet")
    real = raw.filter(pl.col("symbol") == "SPY").head(300).collect().rename({"ts": "bar_start"})
    bars = complete_bars(real, source="file", adjustment="none", timeframe="1m", batch_id="test")
    frame = features_of_days(bars, bars["date"].unique().to_list(), tiny_market()[1])
    rows = feature_matrix(frame, CORE_V1.columns)
    whole = scorer.predict(rows)
    assert_equal_bits(whole, concatenate([scorer.predict(rows[i : i + 1]) for i in range(len(rows))]))
    assert np.isfinite(whole.anomaly_score).all()


def test_predict_of_more_rows_than_a_piece_keeps_their_order(scorer):
    rows = np.tile(features(100), (85, 1))  # past MAX_BATCH_ROWS
    scores = scorer.predict(rows)
    assert len(scores) == len(rows) == len(scores.kinds)
    np.testing.assert_array_equal(scores.anomaly_score.reshape(85, 100), np.tile(scores.anomaly_score[:100], (85, 1)))


def test_predict_of_no_rows_is_empty(scorer):
    assert len(scorer.predict(np.empty((0, len(CORE_V1.columns))))) == 0


def test_predict_of_features_of_another_width_is_refused(scorer):
    with pytest.raises(ValueError, match="expected features of shape"):
        scorer.predict(np.zeros((1, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_predict_of_missing_or_extreme_features_is_finite(scorer, value):
    scores = scorer.predict(np.full((1, len(CORE_V1.columns)), value))
    assert np.isfinite(scores.statistic("reconstruction_error")).all()
    for name in ("anomaly_score", "probabilities", "direction_probabilities"):
        assert np.isfinite(getattr(scores, name)).all(), name


def test_predict_finds_planted_anomalies(scorer):
    rows = tiny_training_set().rows("test", labelled=True)
    scores = scorer.predict(feature_matrix(rows, CORE_V1.columns))
    planted = (rows["label"] != NORMAL).to_numpy()
    assert scores.anomaly_score[planted].mean() > 3 * scores.anomaly_score[~planted].mean()
    assert (scores.is_anomaly == (scores.anomaly_score >= scores.threshold)).all()
    assert all((kind == NORMAL) == (not odd) for kind, odd in zip(scores.kinds, scores.is_anomaly, strict=True))


@pytest.mark.requirement("INF-05")
def test_warm_up_runs_every_model(scorer):
    scorer.warm_up()


@pytest.mark.requirement("MOD-06")
def test_directions_of_an_unready_model_are_momentum(scorer):
    rows = features(50)
    scores = scorer.predict(rows)
    assert not scores.direction_ready
    assert not np.array_equal(scores.direction_probabilities, scorer.predict_member("direction", rows).probabilities)
    np.testing.assert_allclose(scorer.predict_member("direction", rows).probabilities.sum(axis=1), 1.0, atol=1e-6)


def test_explanation_is_json_and_names_what_was_strange(scorer):
    rows = features(200)
    rows[0, CORE_V1.columns.index("volume_z")] = np.nan
    scores = scorer.predict(rows)
    worst = int(np.argmax(scores.statistic("reconstruction_error")))
    told = json.loads(json.dumps(explanation(scores, worst), allow_nan=False))
    assert {feature["name"] for feature in told["features"]} <= set(CORE_V1.model_columns)
    assert 0 < sum(feature["share"] for feature in told["features"]) <= 1 + 1e-12
    assert scores.kind(worst) in told["summary"]
    json.dumps(explanation(scores, 0), allow_nan=False)


def test_name_kinds_of_a_strange_bar_without_a_name_is_unclassified():
    probabilities = np.zeros((3, len(LABELS)))
    probabilities[:, 0] = 0.9, 0.9, 0.1
    probabilities[:, 4] = 0.1, 0.1, 0.9
    kinds = AnomalyKinds(LABELS, probabilities)
    codes, confidence = name_kinds(kinds, np.array([0.1, 0.1, 0.8]), np.array([0.2, 0.7, 0.9]))
    assert [(*LABELS, UNCLASSIFIED)[code] for code in codes] == [NORMAL, UNCLASSIFIED, LABELS[4]]
    np.testing.assert_array_equal(confidence, [0.9, 0.7, 0.9])


def test_centred_on_threshold_keeps_the_ends_and_moves_the_threshold_to_the_middle():
    points = centred_on_threshold(np.array([0.0, 0.45, 0.9, 0.95, 1.0]), 0.9)
    np.testing.assert_allclose(points, [0.0, 0.25, THRESHOLD, 0.75, 1.0])


def test_calibrated_is_straight_between_knots_and_flat_outside():
    got = calibrated(
        np.array([-1.0, 0.0, 1.5, 4.0, 9.0]), np.array([0.0, 1.0, 2.0, 4.0]), np.array([0.0, 0.2, 0.4, 1.0])
    )
    np.testing.assert_allclose(got, [0.0, 0.0, 0.3, 1.0, 1.0])


def test_top_contributions_of_a_row_without_error_share_nothing():
    _, shares, _ = top_contributions(np.zeros((1, 5)), np.ones((1, 5)))
    np.testing.assert_array_equal(shares, np.zeros((1, 3)))


def test_runtime_hash_is_stable_within_a_process():
    assert runtime_hash() == runtime_hash()
    assert len(runtime_hash()) == 64


def test_top_contributions_are_those_of_a_stable_sort():
    random = np.random.default_rng(3)
    parts = random.integers(0, 5, (200, 12)).astype(np.float64)  # many ties, whole rows of zeros
    parts[:20] = 0.0
    top, shares, values = top_contributions(parts, parts + 1.0)
    expected = np.argsort(-parts, axis=1, kind="stable")[:, :3]
    assert np.array_equal(top, expected)
    assert np.array_equal(values, np.take_along_axis(parts, expected, axis=1) + 1.0)
    assert (shares[:20] == 0.0).all()


@pytest.mark.parametrize("member", [0, 1, 2])
def test_member_without_a_file_that_its_kind_needs_is_a_bundle_error(bundle, member):
    spec = bundle.members[member]
    for name in spec.files:
        smaller = replace(spec, files=tuple(other for other in spec.files if other != name))
        with pytest.raises(BundleError, match=re.escape(repr(name))):
            load_model(smaller, {other: content for other, content in bundle.files.items() if other != name})
