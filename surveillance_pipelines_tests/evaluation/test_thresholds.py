import numpy as np
import pytest

from surveillance_pipelines.evaluation.thresholds import (
    CLASSIFIER_RATE,
    TAIL_RATE,
    budget_threshold,
    calibrate_surprise,
)
from surveillance_pipelines.models.calibration import THRESHOLD, calibrated


def test_calibrate_surprise_alerts_on_the_budgeted_share_of_an_exponential():
    surprises = np.random.default_rng(3).exponential(1.0, 400_000)
    calibration = calibrate_surprise(surprises[:20_000], TAIL_RATE)
    rate = float(np.mean(calibrated(surprises, calibration.statistic, calibration.score) >= THRESHOLD))
    assert rate == pytest.approx(TAIL_RATE, rel=0.3)


def test_calibrate_surprise_rises_from_zero_to_one():
    calibration = calibrate_surprise(np.random.default_rng(3).exponential(size=5_000), TAIL_RATE)
    assert (np.diff(calibration.statistic) > 0).all()
    assert (np.diff(calibration.score) > 0).all()
    assert (calibration.score[0], calibration.score[-1]) == (0.0, pytest.approx(1.0))


def test_calibrate_surprise_of_equal_values_still_rises():
    calibration = calibrate_surprise(np.full(200, 0.3), TAIL_RATE)
    assert (np.diff(calibration.statistic) > 0).all()


def test_calibrate_surprise_of_few_bars_is_refused():
    with pytest.raises(ValueError, match="at least 100"):
        calibrate_surprise(np.ones(99), TAIL_RATE)


def test_budget_threshold_is_exceeded_by_the_budgeted_share():
    scores = np.random.default_rng(3).random(100_000) * 0.9
    assert np.mean(scores >= budget_threshold(scores)) == pytest.approx(CLASSIFIER_RATE, rel=0.1)


def test_budget_threshold_is_bounded_away_from_zero_and_one():
    assert budget_threshold(np.zeros(10)) == 0.05
    assert budget_threshold(np.ones(10)) == 0.995
