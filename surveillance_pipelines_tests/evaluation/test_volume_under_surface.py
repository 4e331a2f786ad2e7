"""VUS-PR against a computation by definition, point by point."""

from itertools import pairwise
from math import sqrt

import numpy as np
import pytest

from surveillance_pipelines.evaluation.volume_under_surface import labelled_ranges, vus_pr


def by_definition(labels: list[int], scores: list[float], longest: int, thresholds: int) -> float:
    """Return VUS-PR from its definition: every buffer, every threshold, every point."""
    size, ordered = len(labels), sorted(scores, reverse=True)
    limits = [ordered[int(rank)] for rank in np.linspace(0, size - 1, thresholds)]
    first = [i for i in range(size) if labels[i] and (i == 0 or not labels[i - 1])]
    last = [i for i in range(size) if labels[i] and (i == size - 1 or not labels[i + 1])]
    areas = []
    for buffer in range(longest + 1):
        half = buffer // 2
        degree = [float(label) for label in labels]
        for start, end in zip(first, last, strict=True):
            for i in range(size):
                distance = start - i if i < start else i - end
                if not labels[i] and 1 <= distance <= half:
                    degree[i] = min(degree[i] + sqrt(1.0 - distance / buffer), 1.0)
        groups = [[first[0] - half]]
        for (_, end), (start, _) in pairwise(zip(first, last, strict=True)):
            if end + half < start - half:
                groups[-1].append(end + half)
                groups.append([start - half])
        groups[-1].append(last[-1] + half)
        curve = [(0.0, 1.0)]
        for limit in limits:
            alert = [score >= limit for score in scores]
            found = sum(degree[i] for i in range(size) if alert[i])
            extended = sum(degree[i] for i in range(size) if labels[i] or alert[i])
            positives = (sum(labels) + extended) / 2.0
            hit = sum(any(alert[max(a, 0) : b + 1]) for a, b in groups) / len(groups)
            curve.append((min(found / positives, 1.0) * hit, found / sum(alert)))
        areas.append(sum((right[0] - left[0]) * right[1] for left, right in pairwise(curve)))
    return sum(areas) / len(areas)


@pytest.mark.parametrize("seed", range(12))
def test_vus_pr_is_that_of_the_definition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = int(generator.integers(40, 160))
    labels = np.zeros(size, dtype=np.bool_)
    for start in generator.integers(0, size, int(generator.integers(1, 5))):
        labels[start : start + int(generator.integers(1, 12))] = True
    scores = generator.normal(size=size) + labels * generator.uniform(0.0, 2.0)
    scores = np.round(scores, 1) if seed % 2 else scores  # with and without ties
    longest, thresholds = int(generator.integers(0, 25)), int(generator.integers(2, 60))
    expected = by_definition(labels.astype(int).tolist(), scores.tolist(), longest, thresholds)
    assert vus_pr(labels, scores, longest, thresholds) == pytest.approx(expected, abs=1e-12)


def test_without_buffer_and_ties_it_is_the_average_precision() -> None:
    labels = np.array([False, True, False, False])
    # One range, second in rank: precision 1/2 at full recall.
    assert vus_pr(labels, np.array([0.9, 0.8, 0.1, 0.0]), 0, 4) == pytest.approx(0.5)
    assert vus_pr(labels, np.array([0.1, 0.8, 0.2, 0.0]), 0, 4) == pytest.approx(1.0)


def test_a_detection_just_outside_a_range_counts_with_a_buffer() -> None:
    labels = np.zeros(200, dtype=np.bool_)
    labels[100:110] = True
    scores = np.zeros(200)
    scores[112] = 1.0
    assert vus_pr(labels, scores, 20) > vus_pr(labels, scores, 0)


def test_ranges_at_both_ends() -> None:
    assert labelled_ranges(np.array([True, False, True, True])) == [(0, 0), (2, 3)]


def test_without_labels_it_is_nan() -> None:
    assert np.isnan(vus_pr(np.zeros(5, dtype=np.bool_), np.arange(5.0), 2))


@pytest.mark.parametrize(
    ("scores", "buffer", "thresholds"),
    [(np.array([0.0, np.nan]), 1, 5), (np.zeros(3), 1, 5), (np.zeros(2), -1, 5), (np.zeros(2), 1, 1)],
)
def test_malformed_arguments_are_refused(scores: np.ndarray, buffer: int, thresholds: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        vus_pr(np.array([True, False]), scores, buffer, thresholds)
