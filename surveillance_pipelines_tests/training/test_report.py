import math
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.bar_frames import complete_bars
from surveillance_pipelines.market.calendars import build_sessions
from surveillance_pipelines.models.bundle import BundleError, load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.training.bundle_training import save_bundle, train_bundle
from surveillance_pipelines.training.deadline import Deadline
from surveillance_pipelines.training.plots import evaluation_figures
from surveillance_pipelines.training.report import evaluate, event_recall
from surveillance_pipelines.training.training_data import LABELS
from surveillance_pipelines.training.training_set import build_training_set
from surveillance_pipelines_tests.training.tiny_bundle import (
    TINY_CONFIGS,
    single_symbol_training_set,
    tiny_training_set,
)


def test_evaluate_uses_only_labelled_test_bars(evaluation):
    frame = evaluation.evaluated.frame
    assert set(frame["split"]) == {"test"}
    assert frame["label"].null_count() == 0
    assert len(frame) == len(tiny_training_set().rows("test", labelled=True))


def test_evaluate_measures_are_finite_and_uniquely_named(evaluation):
    names = [(measure.model, measure.key) for measure in evaluation.measures]
    assert len(set(names)) == len(names)
    assert all(math.isfinite(measure.value) for measure in evaluation.measures)
    wanted = {
        "classifier_accuracy", "classifier_balanced_accuracy", "classifier_macro_f1", "classifier_majority_accuracy",
        "anomaly_pr_auc", "anomaly_alerts_per_symbol_day", "anomaly_events_found", "tail_detector_roc_auc",
        "autoencoder_error_ratio", "direction_balanced_accuracy",
    }  # fmt: skip
    assert wanted <= set(evaluation.metrics)


def test_evaluate_tiny_models_beat_the_naive_baselines(evaluation):
    metrics = evaluation.metrics
    assert metrics["classifier_balanced_accuracy"] > 2 * metrics["classifier_majority_balanced_accuracy"]
    assert metrics["anomaly_pr_auc"] > metrics["classifier_robust_z_pr_auc"]
    assert metrics["tail_detector_roc_auc"] > 0.75


def test_evaluate_direction_of_one_test_day_stays_in_warm_up(evaluation):
    assert not evaluation.direction_gate.passed
    assert evaluation.direction_gate.reasons[0].startswith("test_days fails")


def test_evaluate_gate_follows_the_threshold(evaluation):
    assert {rule.name: rule.limit for rule in evaluation.anomaly_gate.rules}["accuracy"] == 0.75


def test_evaluate_finds_members_by_their_output_not_by_name(evaluation, bundle):
    names = {"classifier": "labeller", "direction": "forecast"}
    members = tuple(replace(spec, name=names.get(spec.name, spec.name)) for spec in bundle.members)
    other = evaluate(
        tiny_training_set(), Ensemble(replace(bundle, members=members)), min_rows=1_000, min_accuracy=0.75, seed=1
    )
    assert [rule.value for rule in other.anomaly_gate.rules] == [rule.value for rule in evaluation.anomaly_gate.rules]
    renamed = {names.get(measure.model, measure.model) for measure in evaluation.measures}
    assert {measure.model for measure in other.measures} == renamed == {
        "anomaly", "tail_detector", "autoencoder", "floors", *names.values(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["classifier", "direction"])
def test_evaluate_without_a_required_member_says_which_output_is_missing(bundle, kind):
    rest = tuple(spec for spec in bundle.members if spec.name != kind)
    output = bundle.member(kind).output.kind
    with pytest.raises(
        BundleError, match=f"expected a member with output '{output}', got tail_detector, autoencoder, "
    ):
        evaluate(tiny_training_set(), Ensemble(replace(bundle, members=rest)), min_rows=1, min_accuracy=0.5, seed=1)


@pytest.mark.requirement("MOD-02", "TRN-04")
def test_evaluate_of_one_symbol_covers_the_kinds_that_exist(tmp_path):
    rows = single_symbol_training_set()
    save_bundle(train_bundle(rows, seed=7, deadline=Deadline.after(120.0), configs=TINY_CONFIGS), tmp_path / "v1")
    bundle = load_bundle(tmp_path / "v1")
    assert bundle.member("classifier").output.labels == rows.labels
    assert bundle.manifest["training"]["data"]["kinds_left_out"] == rows.left_out
    found = evaluate(rows, Ensemble(bundle), min_rows=1_000, min_accuracy=0.75, seed=1)
    assert found.left_out == rows.left_out
    tested = set(rows.rows("test", labelled=True)["label"])
    assert {row["label"] for row in found.by_label} == tested
    assert set(found.untested) == set(rows.labels) - tested
    assert "cross_symbol_divergence" not in found.evaluated.labels
    assert found.metrics["classifier_majority_balanced_accuracy"] == 1 / len(tested)
    assert all(math.isfinite(rule.value) for rule in found.anomaly_gate.rules)
    assert found.metrics["classifier_balanced_accuracy"] > 2 / len(tested)
    assert set(evaluation_figures(found)) == {
        "tail_surprise",
        "reconstruction_error",
        "roc_pr",
        "confusion",
        "event_recall",
    }


def test_evaluate_on_other_kinds_than_the_bundle_has_says_which(bundle):
    with pytest.raises(BundleError, match=r"momentum_ignition, as in the training set, got .*cross_symbol_divergence"):
        evaluate(single_symbol_training_set(), Ensemble(bundle), min_rows=1, min_accuracy=0.5, seed=1)


def test_event_recall_counts_each_planted_anomaly_once(evaluation):
    events = event_recall(evaluation.evaluated)
    assert set(events["label"]) == set(ANOMALY_KINDS)
    planted = evaluation.evaluated.frame.filter(pl.col("anomaly_id").is_not_null())
    assert events["planted"].sum() == planted.select("replica", "anomaly_id").n_unique()
    assert (events["named"] <= events["found"]).all()


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.requirement("MOD-01", "MOD-02", "TRN-04")
def test_evaluate_models_of_real_bars_pass_the_gate_on_later_days(shared_data, tmp_path):
    raw = pl.read_parquet(shared_data / "equity_minute" / "yahoo_1m_2019_2022.parquet").rename({"ts": "bar_start"})
    bars = complete_bars(raw, source="file", adjustment="split", timeframe="1m", batch_id="test")
    table = SessionTable.from_frame(build_sessions("XNYS", date(2019, 12, 1), date(2022, 4, 20)))
    days = bars["date"].unique().sort()
    data = build_training_set(bars, table, first=days[0], last=days[-1], seed=1)
    save_bundle(train_bundle(data, seed=1, deadline=Deadline.after(600.0)), tmp_path / "v1")
    evaluated = evaluate(data, Ensemble(load_bundle(tmp_path / "v1")), min_rows=1_000, min_accuracy=0.75, seed=1)
    assert evaluated.anomaly_gate.passed, evaluated.anomaly_gate.reasons
    assert evaluated.metrics["anomaly_events_found"] > 0.8
    assert np.isfinite(evaluated.evaluated.predictions.anomaly_score).all()


def test_metrics_by_class_form_a_table(evaluation):
    rows = {row["label"]: row for row in evaluation.by_label}
    assert set(rows) <= set(LABELS)
    assert {tuple(row) for row in evaluation.by_label} == {("label", "events_found", "events_named", "recall")}
    assert rows["normal"]["events_found"] is None
    assert rows["volume_spike"]["recall"] == evaluation.metrics["classifier_recall_volume_spike"]
    assert not any(name.endswith(LABELS) for name in evaluation.overall)
