import numpy as np
import pytest

from surveillance_pipelines.evaluation.thresholds import (
    AUTOENCODER_RATE,
    CLASSIFIER_RATE,
    budget_threshold,
    calibrate_error,
)
from surveillance_pipelines.models.calibration import THRESHOLD, calibrated


def test_calibrate_error_alerts_on_the_budgeted_share_of_a_lognormal():
    errors = np.exp(np.random.default_rng(3).exponential(0.5, 400_000))
    calibration = calibrate_error(errors[:20_000])
    rate = float(np.mean(calibrated(errors, calibration.statistic, calibration.score) >= THRESHOLD))
    assert rate == pytest.approx(AUTOENCODER_RATE, rel=0.5)


def test_calibrate_error_rises_from_zero_to_one():
    calibration = calibrate_error(np.random.default_rng(3).lognormal(size=5_000))
    assert (np.diff(calibration.statistic) > 0).all()
    assert (np.diff(calibration.score) > 0).all()
    assert (calibration.score[0], calibration.score[-1]) == (0.0, pytest.approx(1.0))


def test_calibrate_error_of_equal_errors_still_rises():
    calibration = calibrate_error(np.full(200, 0.3))
    assert (np.diff(calibration.statistic) > 0).all()


def test_calibrate_error_of_few_bars_is_refused():
    with pytest.raises(ValueError, match="at least 100"):
        calibrate_error(np.ones(99))


def test_budget_threshold_is_exceeded_by_the_budgeted_share():
    scores = np.random.default_rng(3).random(100_000) * 0.9
    assert np.mean(scores >= budget_threshold(scores)) == pytest.approx(CLASSIFIER_RATE, rel=0.1)


def test_budget_threshold_is_bounded_away_from_zero_and_one():
    assert budget_threshold(np.zeros(10)) == 0.05
    assert budget_threshold(np.ones(10)) == 0.995
