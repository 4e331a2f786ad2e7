"""Scoring of the Numenta Anomaly Benchmark, and the detectors that it compares."""

from math import exp, log

import numpy as np
import pytest

from benchmarks.nab import TOLERANCE, reproduction
from benchmarks.nab_corpus import SERIES, load_corpus
from benchmarks.nab_gaussian import windowed_gaussian
from benchmarks.nab_novelty import novelty
from benchmarks.nab_scoring import NOTHING, PROFILES, NabScorer, NabSeries, probation_rows, row_gains
from benchmarks.page_parts import replace_part

STANDARD, LOW_FALSE_POSITIVES, LOW_FALSE_NEGATIVES = PROFILES


def sigmoid(position: float) -> float:
    return 2.0 / (1.0 + exp(5.0 * position)) - 1.0


def series(*windows: tuple[int, int], rows: int = 100) -> NabSeries:
    times = np.datetime64("2024-01-01", "us") + np.arange(rows) * np.timedelta64(5, "m")
    return NabSeries("made.csv", times, np.zeros(rows), windows)


def detections(*places: int, rows: int = 100) -> np.ndarray:
    scores = np.zeros(rows)
    scores[list(places)] = 1.0
    return scores


def test_the_probationary_period_grows_no_more_from_5000_rows() -> None:
    assert [probation_rows(rows) for rows in (100, 4_032, 5_000, 20_000)] == [15, 604, 750, 750]


def test_gains_by_hand() -> None:
    gains, window = row_gains(40, [(20, 29)])
    assert gains[19] == -1.0  # before any window
    assert gains[20] == pytest.approx(1.0)  # the left edge: position -1
    assert gains[25] == pytest.approx(sigmoid(-0.5) / sigmoid(-1.0))
    assert gains[29] == pytest.approx(sigmoid(-0.1) / sigmoid(-1.0))
    assert gains[38] == pytest.approx(sigmoid(1.0))  # nine rows behind a window of width ten
    assert window.tolist() == [-1] * 20 + [0] * 10 + [-1] * 10


def test_a_score_by_hand() -> None:
    # Row 5 is probationary; 25 and 27 are in the first window, of which the earlier counts; 38 is a false alarm;
    # the second window is missed.
    scorer = NabScorer([series((20, 29), (60, 69))], STANDARD)
    found = scorer.at([detections(5, 25, 27, 38)], 1.0)
    expected = sigmoid(-0.5) / sigmoid(-1.0) + 0.11 * sigmoid(1.0) - 1.0
    assert found.totals == (pytest.approx(expected),)
    assert found.score == pytest.approx(100.0 * (expected + 2.0) / 4.0)
    assert (found.detected, found.windows, found.false_positives) == (1, 2, 1)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_the_null_detector_scores_0_and_the_perfect_one_100(profile) -> None:
    scorer = NabScorer([series((20, 29)), series((60, 69), (80, 85))], profile)
    assert scorer.at([detections(), detections()], NOTHING).score == 0.0
    assert scorer.best([detections(20), detections(60, 80)]).score == pytest.approx(100.0)


def test_the_best_threshold_is_that_of_the_largest_total() -> None:
    generator = np.random.default_rng(1)
    corpus = [series((20, 29), (60, 69)), series((40, 55))]
    scores = [generator.integers(0, 30, 100).astype(float) for _ in corpus]
    for profile in PROFILES:
        scorer = NabScorer(corpus, profile)
        each = [scorer.at(scores, threshold).score for threshold in [NOTHING, *range(30)]]
        assert scorer.best(scores).score == pytest.approx(max(each))


def test_a_detector_with_false_alarms_only_is_best_off_with_none() -> None:
    assert NabScorer([series((60, 69))], STANDARD).best([detections(30)]).threshold == NOTHING


def test_scores_with_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        NabScorer([series((60, 69))], STANDARD).best([np.full(100, np.nan)])


def test_novelty_of_a_value_by_hand() -> None:
    # 64 values 0 to 63, then values half way between: all distances are 0.5, then one of 10.
    scores = novelty(np.array([*range(64), *(value + 0.5 for value in range(60)), 73.0, 73.0]))
    assert scores[-2] == pytest.approx(-log(1 / 61))  # no distance exceeds the limit, so the tail has no size
    assert scores[-1] == 0.0  # it was seen


def test_novelty_never_reads_a_later_value() -> None:
    values = np.random.default_rng(2).normal(size=400)
    changed = values.copy()
    changed[300:] += 50.0
    assert novelty(values)[:300].tolist() == novelty(changed)[:300].tolist()


@pytest.mark.skipif(not SERIES.exists(), reason=f"expected NAB's series in {SERIES}, which may not be redistributed")
def test_the_published_windowed_gaussian_is_reproduced() -> None:
    corpus = load_corpus()
    found = reproduction(corpus, [windowed_gaussian(part.values) for part in corpus])
    assert found["largest_difference"] < TOLERANCE
    assert found["official"] == pytest.approx(39.65, abs=0.01)


def test_a_part_of_a_page_is_replaced_between_its_marks(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- nab: begin (written) -->\nold\n<!-- nab: end -->\nb\n")
    replace_part(page, "nab", ["new"])
    assert page.read_text() == "a\n<!-- nab: begin (written) -->\nnew\n<!-- nab: end -->\nb\n"
    with pytest.raises(ValueError, match="other"):
        replace_part(page, "other", ["new"])
