"""Detectors of windows and points that the patch encoder is compared with."""

import numpy as np
import pytest

from benchmarks.patch_scores import (
    around,
    at_the_end,
    combined,
    mean_shift,
    point_deviation,
    rolling_z,
    sub_pca,
    windows_of,
)


def test_the_score_around_a_point_is_the_mean_of_its_windows() -> None:
    # Windows of 3 points end at the points 2, 3 and 4.
    assert around(np.array([1.0, 2.0, 6.0]), 5).tolist() == [1.0, 1.5, 3.0, 4.0, 6.0]
    assert at_the_end(np.array([1.0, 2.0, 6.0]), 5).tolist() == [1.0, 1.0, 1.0, 2.0, 6.0]


def test_a_window_has_its_points_in_order() -> None:
    values = np.arange(8.0).reshape(4, 2)
    assert windows_of(values, 2).tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]


def test_sub_pca_finds_a_window_off_the_ordinary_plane() -> None:
    places = np.arange(500)
    ordinary = np.stack([np.sin(places / 9.0 + shift / 9.0) for shift in range(8)], axis=1)
    strange = ordinary[:1].copy()
    strange[0, 4] += 1.0
    score = sub_pca(ordinary)
    assert score(strange)[0] > 10.0 * score(ordinary).max()


def test_terms_of_amplitude() -> None:
    ordinary = np.random.default_rng(1).normal(size=(2_000, 1))
    values = ordinary[:200].copy()
    values[100] += 20.0
    values[150:] += 3.0
    assert point_deviation(ordinary)(values).argmax() == 100
    assert mean_shift(ordinary)(values)[155:170].min() > mean_shift(ordinary)(values)[60:90].max()
    assert rolling_z(values).argmax() == 100


def test_no_point_reads_a_later_one() -> None:
    values = np.random.default_rng(2).normal(size=(600, 2))
    changed = values.copy()
    changed[400:] += 9.0
    for score in (rolling_z, mean_shift(values[:200]), point_deviation(values[:200])):
        assert score(values)[:400].tolist() == score(changed)[:400].tolist()


def test_scores_are_combined_in_their_ordinary_scales() -> None:
    ordinary = np.arange(101.0)  # median 50, 99% quantile 99
    found = combined([(np.array([50.0, 99.0]), ordinary), (np.array([0.0, 990.0]), 10.0 * ordinary)])
    assert found.tolist() == pytest.approx([0.0, 2.0])
