import json
import math

import numpy as np
import pytest

from surveillance_pipelines.evaluation.drift import PSI_ALERT, drifted, population_stability, reference_histograms

COLUMNS = ("steady", "moving")


def sample(seed: int, shift: float = 0.0, rows: int = 20_000) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, 2))
    values[:, 1] += shift
    return values


def test_population_stability_of_the_same_population_is_near_zero():
    reference = reference_histograms(sample(1), COLUMNS)
    assert max(population_stability(reference, sample(2), COLUMNS).values()) < 0.005


def test_population_stability_of_a_shifted_column_alerts_for_it_alone():
    indices = population_stability(reference_histograms(sample(1), COLUMNS), sample(2, shift=1.0), COLUMNS)
    assert drifted(indices) == ["moving"]
    assert indices["moving"] > PSI_ALERT


def test_population_stability_survives_json_in_any_key_order():
    reference = json.loads(json.dumps(reference_histograms(sample(1), COLUMNS), sort_keys=True, allow_nan=False))
    assert list(reference) == ["moving", "steady"]
    assert max(population_stability(reference, sample(1), COLUMNS).values()) == pytest.approx(0.0, abs=1e-12)


def test_population_stability_of_missing_values_alerts():
    gone = sample(2)
    gone[: len(gone) // 2, 0] = np.nan
    indices = population_stability(reference_histograms(sample(1), COLUMNS), gone, COLUMNS)
    assert drifted(indices) == ["steady"]


def test_population_stability_of_a_constant_column_that_stays_is_zero():
    constant = np.zeros((50, 1))
    reference = reference_histograms(constant, ("flag",))
    assert population_stability(reference, constant, ("flag",)) == {"flag": 0.0}
    assert population_stability(reference, constant + 1, ("flag",))["flag"] > PSI_ALERT


def test_population_stability_without_rows_is_not_a_number():
    indices = population_stability(reference_histograms(sample(1), COLUMNS), np.empty((0, 2)), COLUMNS)
    assert all(math.isnan(index) for index in indices.values())
    assert drifted(indices) == []


def test_reference_histograms_parts_and_missing_sum_to_one():
    values = sample(1)
    values[:100, 0] = np.nan
    for histogram in reference_histograms(values, COLUMNS).values():
        assert sum(histogram["parts"]) + histogram["missing"] == pytest.approx(1.0)
        assert len(histogram["parts"]) == len(histogram["edges"]) + 1
