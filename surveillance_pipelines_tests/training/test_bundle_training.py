from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.clock import ManualClock
from surveillance_pipelines.contracts.errors import TooLittleDataError
from surveillance_pipelines.models.arrays import run_model
from surveillance_pipelines.models.autoencoder import MODEL_FILE
from surveillance_pipelines.models.runtime import inference_session
from surveillance_pipelines.training.boosting import BoostingConfig, LabelledRows, balanced_weights, train_booster
from surveillance_pipelines.training.bundle_training import train_bundle, training_parameters
from surveillance_pipelines.training.deadline import Deadline, TrainingTimeout, no_progress
from surveillance_pipelines.training.export import MAX_DIFFERENCE, ParityError, require_parity
from surveillance_pipelines.training.scaler import fit_scaling
from surveillance_pipelines_tests.training.tiny_bundle import TINY_CONFIGS, tiny_models, tiny_training_set


class TickingClock(ManualClock):
    """A clock that advances one second per reading."""

    def now_us(self) -> int:
        self.advance(1.0)
        return super().now_us()


@pytest.mark.requirement("TRN-03")
@pytest.mark.parametrize(("seconds", "done"), [(2.5, "epochs of the autoencoder"), (8.5, "rounds of the classifier")])
def test_train_bundle_past_the_deadline_stops_and_names_the_stage(seconds, done):
    deadline = Deadline.after(seconds, TickingClock(datetime(2024, 1, 1, tzinfo=UTC)))
    with pytest.raises(TrainingTimeout, match=rf"{done}.*no model was kept.*MODEL_TRAINING_MAX_DURATION_SECONDS"):
        train_bundle(tiny_training_set(), seed=7, deadline=deadline, configs=TINY_CONFIGS)


def test_train_bundle_reports_progress_of_every_stage():
    stages: dict[str, float] = {}
    train_bundle(
        tiny_training_set(), seed=7, deadline=Deadline.after(120.0), configs=TINY_CONFIGS, progress=stages.__setitem__
    )
    assert list(stages) == ["tail_detector", "autoencoder", "classifier", "direction", "export"]
    assert stages["export"] == 1.0


@pytest.mark.requirement("MOD-01", "MOD-02", "MOD-06")
def test_train_bundle_exports_equal_the_native_models():
    members = tiny_models().members
    assert 0.0 <= max(members[name].facts["parity"] for name in ("classifier", "direction")) <= MAX_DIFFERENCE
    losses = members["autoencoder"].curves["validation"]
    assert len(losses) > 1
    assert min(losses) < losses[0]
    assert all(check.passed for member in members.values() for check in member.checks)


def test_autoencoder_export_equals_its_layers():
    trained = tiny_models().members["autoencoder"]
    rows = np.random.default_rng(1).standard_normal((7, len(trained.spec.input.columns))).astype(np.float32)
    expected = rows
    for i, (weight, bias) in enumerate(trained.native.layers):
        expected = expected @ weight.T + bias
        if i < len(trained.native.layers) - 1:
            expected = np.maximum(expected, 0.0)
    got = run_model(inference_session(trained.files[MODEL_FILE]), rows)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_require_parity_of_another_model_is_refused():
    trained = tiny_models().members["autoencoder"]
    rows = np.zeros((3, len(trained.spec.input.columns)), dtype=np.float32)
    with pytest.raises(ParityError, match="exported autoencoder"):
        require_parity(trained.files[MODEL_FILE], rows, np.full(rows.shape, 9.0), "autoencoder")


@pytest.mark.requirement("TRN-12")
def test_training_parameters_record_data_seed_and_libraries():
    parameters = training_parameters(tiny_models())
    assert parameters["seed"] == 7
    assert parameters["data"]["fingerprint"] == tiny_training_set().fingerprint
    assert {"torch", "xgboost", "onnxruntime"} <= set(parameters["libraries"])


def test_fit_scaling_of_constant_and_empty_columns_has_scale_one():
    values = np.column_stack([np.arange(9.0), np.full(9, 4.0), np.full(9, np.nan)])
    scaling = fit_scaling(values)
    np.testing.assert_array_equal(scaling.center, [4.0, 4.0, 0.0])
    np.testing.assert_array_equal(scaling.scale, [4.0, 1.0, 1.0])


def test_fit_scaling_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="expected training rows"):
        fit_scaling(np.empty((0, 3)))


def test_train_booster_without_rows_of_a_class_is_refused():
    rows = LabelledRows(np.zeros((4, 2), dtype=np.float32), np.array([0, 0, 1, 1]), np.ones(4))
    with pytest.raises(ValueError, match=r"every class of the demo model, got counts \[2, 2, 0\]"):
        train_booster(
            rows, rows, classes=3, config=BoostingConfig(), seed=1, deadline=Deadline.after(9.0),
            progress=no_progress, stage="demo",
        )  # fmt: skip


def test_train_bundle_without_bars_of_a_kind_names_it():
    rows = tiny_training_set()
    gone = pl.col("label").is_in(["ramping", "price_gap"]) & (pl.col("split") == "train")
    thin = replace(rows, frame=rows.frame.filter(~gone.fill_null(value=False)))
    with pytest.raises(TooLittleDataError, match=r"got none of price_gap, ramping: too few anomalies fit"):
        train_bundle(thin, seed=7, deadline=Deadline.after(120.0), configs=TINY_CONFIGS)


def test_train_bundle_without_a_known_move_on_the_test_days_refuse_the_direction_model_only():
    rows = tiny_training_set()
    unknown = pl.when(pl.col("split") != "test").then("forward_return")
    thin = replace(rows, frame=rows.frame.with_columns(forward_return=unknown))
    trained = train_bundle(thin, seed=7, deadline=Deadline.after(120.0), configs=TINY_CONFIGS)
    direction = trained.members["direction"]
    assert not direction.spec.serves
    assert "test_days fails: 0" in direction.spec.reasons[0]
    assert trained.members["classifier"].spec.serves


def test_balanced_weights_give_every_class_the_same_total():
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = balanced_weights(labels, 3)
    np.testing.assert_allclose(np.bincount(labels, weights), 2.0)
