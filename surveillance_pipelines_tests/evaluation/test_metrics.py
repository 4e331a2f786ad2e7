import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from surveillance_pipelines.evaluation.metrics import (
    accuracy,
    balanced_accuracy,
    block_bootstrap_interval,
    confusion_matrix,
    macro_f1,
    ranking_metrics,
    recalls,
    side_accuracy,
)

ACTUAL = np.array([0, 0, 0, 0, 1, 1, 2])
CALLED = np.array([0, 0, 0, 1, 1, 0, 2])


def counted(actual: np.ndarray, called: np.ndarray, classes: int) -> np.ndarray:
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (actual, called), 1)
    return table


@pytest.mark.parametrize("seed", range(40))
def test_metrics_equal_those_counted_by_hand_to_the_last_bit(seed: int):
    random = np.random.default_rng(seed)
    classes, rows = int(random.integers(2, 12)), int(random.integers(1, 80))
    actual, called = random.integers(0, classes, (2, rows))
    if seed % 4 == 0:
        called[:] = called[0]  # a constant call; few rows also leave classes without any
    table = counted(actual, called, classes)
    total, named = table.sum(axis=1), table.sum(axis=0)
    recall = np.divide(table.diagonal(), total, out=np.full(classes, np.nan), where=total > 0)
    present = total > 0
    np.testing.assert_array_equal(confusion_matrix(actual, called, classes), table)
    np.testing.assert_array_equal(recalls(actual, called, classes), recall)
    assert macro_f1(actual, called) == np.mean(2.0 * table.diagonal()[present] / (total + named)[present])
    assert balanced_accuracy(actual, called) == np.nanmean(recall[: max(actual.max(), called.max()) + 1])


def test_balanced_accuracy_equals_scikit_learn():
    actual, called = np.random.default_rng(3).integers(0, 4, (2, 500))
    assert balanced_accuracy(actual, called) == pytest.approx(balanced_accuracy_score(actual, called))


def test_confusion_matrix_counts_rows_by_actual_class():
    np.testing.assert_array_equal(confusion_matrix(ACTUAL, CALLED, 3), [[3, 1, 0], [1, 1, 0], [0, 0, 1]])


def test_recalls_of_an_absent_class_are_not_a_number():
    np.testing.assert_array_equal(recalls(ACTUAL, CALLED, 4), [0.75, 0.5, 1.0, np.nan])


def test_metrics_without_rows_are_not_a_number():
    nothing = np.empty(0, dtype=np.int64)
    assert math.isnan(accuracy(nothing, nothing))
    assert math.isnan(balanced_accuracy(nothing, nothing))
    assert math.isnan(macro_f1(nothing, nothing))


def test_balanced_accuracy_of_a_constant_call_is_one_over_the_classes():
    assert balanced_accuracy(np.array([0] * 98 + [1, 2]), np.zeros(100, dtype=np.int64)) == pytest.approx(1 / 3)


def test_side_accuracy_uses_only_called_and_actual_moves():
    assert side_accuracy(np.array([0, 2, 2, 1, 0]), np.array([0, 2, 0, 2, 1])) == pytest.approx(2 / 3)


def test_ranking_metrics_of_a_perfect_score_are_one():
    assert ranking_metrics(np.array([False, True]), np.array([0.1, 0.9])) == {"pr_auc": 1.0, "roc_auc": 1.0}


def test_ranking_metrics_of_one_class_are_not_a_number():
    assert all(math.isnan(value) for value in ranking_metrics(np.array([True]), np.array([0.5])).values())


def test_block_bootstrap_interval_is_wider_when_rows_of_a_day_agree():
    random = np.random.default_rng(3)
    days = np.repeat(np.arange(20), 50)
    alike = np.repeat(random.random(20) < 0.5, 50).astype(float)
    apart = (random.random(1000) < 0.5).astype(float)

    def width(values: np.ndarray) -> float:
        low, high = block_bootstrap_interval(lambda rows: float(values[rows].mean()), days, seed=1)
        return high - low

    assert width(alike) > 3 * width(apart)


def test_block_bootstrap_interval_of_the_same_seed_is_the_same():
    values, days = np.arange(30.0), np.repeat(np.arange(3), 10)
    intervals = [
        block_bootstrap_interval(lambda rows: float(values[rows].mean()), days, seed=seed) for seed in (1, 1, 2)
    ]
    assert intervals[0] == intervals[1] != intervals[2]


def test_block_bootstrap_interval_without_rows_is_not_a_number():
    assert all(math.isnan(bound) for bound in block_bootstrap_interval(lambda _: 0.0, np.empty(0), seed=1))
