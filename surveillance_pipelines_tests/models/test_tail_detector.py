import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import t

from surveillance_pipelines.contracts.predictions import AnomalyScores
from surveillance_pipelines.models.session_phase import PHASE_COLUMNS, PHASES
from surveillance_pipelines.models.tail_detector import TailDetector, parse_tails, tails_to_json
from surveillance_pipelines.training.tail_detector import SHARES, fit_tails
from surveillance_pipelines_tests.training.tiny_bundle import tiny_models

ROWS = 40_000
DAY = PHASES.index("day")


def ordinary(seed: int = 5, **scales: float) -> pl.DataFrame:
    """Return bars in the middle of the day with features that follow Student's t with 4 degrees of freedom."""
    random = np.random.default_rng(seed)
    values = {name: scales.get(name, 1.0) * random.standard_t(4, ROWS) for name in SHARES}
    return pl.DataFrame(values).with_columns(session_progress=pl.lit(0.5), minutes_to_close=pl.lit(195.0))


def test_surprise_is_the_negative_logarithm_of_the_exceedance_probability():
    tails = fit_tails(ordinary(), SHARES)
    place = tails.features.index("return_z")

    for size in (1.0, 3.0, 6.0, 12.0):
        values = np.zeros((2, len(SHARES)))
        values[:, place] = -size
        found = tails.surprises(values, np.array([DAY, DAY]))[0, place]
        assert found == pytest.approx(-np.log(2 * t.sf(size, 4)), rel=0.15)


def test_share_of_ordinary_bars_above_a_surprise_is_at_most_its_probability():
    tails = fit_tails(ordinary(), SHARES)
    values = ordinary(seed=6).select(*SHARES).to_numpy()
    found = tails.weighted(values, np.full(len(values), DAY)).max(axis=1)
    for probability in (1e-2, 1e-3):
        assert np.mean(found >= -np.log(probability)) <= 1.3 * probability


def test_one_huge_value_counts_in_full_whatever_the_others_are():
    tails = fit_tails(ordinary(), SHARES)
    quiet = np.zeros((2, len(SHARES)))
    sizes = []
    for size in (8.0, 16.0, 29.0):
        spiked = quiet.copy()
        spiked[:, tails.features.index("volume_z")] = size
        sizes.append(tails.weighted(spiked, np.array([DAY, DAY])).max())
    assert sizes == sorted(set(sizes))
    assert sizes[0] > 6.0


def test_missing_values_and_low_volume_do_not_surprise():
    tails = fit_tails(ordinary(), SHARES)
    values = np.full((2, len(SHARES)), np.nan)
    values[1] = 0.0
    values[1, tails.features.index("volume_z")] = -50.0
    assert tails.weighted(values, np.array([DAY, DAY])).max() == 0.0


def test_phase_with_few_bars_uses_the_bars_of_all_phases():
    few = ordinary().head(100).with_columns(session_progress=pl.lit(1.5), minutes_to_close=pl.lit(-195.0))
    tails = fit_tails(pl.concat([ordinary(), few]), SHARES)
    assert np.array_equal(tails.knots[PHASES.index("post")], tails.knots[PHASES.index("open")])


def test_scores_do_not_depend_on_the_batch():
    member = tiny_models().members["tail_detector"]
    detector = TailDetector(member.spec, member.native)
    windows = np.random.default_rng(2).normal(size=(50, 1, len(member.spec.input.columns)))
    whole = detector.predict(windows)
    for start in range(0, 50, 2):
        part = detector.predict(windows[start : start + 2])
        assert part.statistic.tobytes() == whole.statistic[start : start + 2].tobytes()
        assert contributions(part).tobytes() == contributions(whole)[start : start + 2].tobytes()
    assert np.array_equal(whole.statistic, contributions(whole).max(axis=1))


def contributions(scores: AnomalyScores) -> np.ndarray:
    assert scores.contributions is not None
    return scores.contributions


COLUMNS = (*SHARES, *PHASE_COLUMNS)


def test_tails_survive_their_file():
    tails = fit_tails(ordinary().head(2_000), SHARES)
    read = parse_tails(json.dumps(tails_to_json(tails)).encode(), COLUMNS)
    assert read.features == tails.features
    for name in ("two_sided", "shares", "knots", "surprise"):
        assert np.array_equal(getattr(read, name), getattr(tails, name))
