"""The compiled arithmetic of the scores is bit-identical to numpy's, for any split into batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from surveillance_pipelines.contracts.predictions import AnomalyScores
from surveillance_pipelines.features.views import CORE_V2
from surveillance_pipelines.models.arrays import as_float32
from surveillance_pipelines.models.autoencoder import Autoencoder, reconstruct, scale, scaled_inputs
from surveillance_pipelines.models.bundle_predictions import TOP_FEATURES, top_contributions
from surveillance_pipelines.models.calibration import calibrated, centred_on_threshold
from surveillance_pipelines.models.fusion import floor_scores
from surveillance_pipelines.models.member_checks import find_problem
from surveillance_pipelines.models.rules import EVIDENCE, FLOORS, WARMUP_RULES, strengths
from surveillance_pipelines.models.session_phase import PHASE_COLUMNS, PHASES, session_phases
from surveillance_pipelines.models.tail_detector import TailDetector
from surveillance_pipelines_tests.models import numpy_reference
from surveillance_pipelines_tests.training.tiny_bundle import tiny_models

ROWS = 200_000
COLUMNS = CORE_V2.columns
ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e300, -1e300, 5e-324])

pytestmark = pytest.mark.filterwarnings("ignore:(invalid|divide|overflow):RuntimeWarning")  # of numpy's form


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Features of every session phase, with values of all sizes, limits of the rules, NaN and infinities."""
    random = np.random.default_rng(17)
    found = random.standard_t(2, size=(ROWS, len(COLUMNS))) * 10.0 ** random.integers(-2, 3, size=(ROWS, 1))
    limits = [limit for rule in (*FLOORS, *WARMUP_RULES, *EVIDENCE.values()) for _, limit in (*rule.limits,)]
    for values, share in ((ODD, 0.03), (np.array(limits), 0.03)):
        chosen = random.random(found.shape) < share
        found[chosen] = random.choice(values, size=int(chosen.sum()))
    length = random.choice([60.0, 390.0, 1_380.0, 1_440.0], size=ROWS)
    minute = np.floor(random.uniform(-0.2, 1.2, size=ROWS) * length)
    known = random.random(ROWS) < 0.95
    found[known, COLUMNS.index("session_progress")] = (minute / length)[known]
    found[known, COLUMNS.index("minutes_to_close")] = (length - minute)[known]
    return found


def identical(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether arrays are equal to the bit, except that all NaNs are alike."""
    canonical = [np.where(np.isnan(each), np.nan, each).tobytes() for each in (one, other)]
    return one.dtype == other.dtype and canonical[0] == canonical[1]


def clock(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[:, COLUMNS.index(name)] for name in PHASE_COLUMNS)


def test_phases_and_weighted_surprises_are_numpys(rows: np.ndarray) -> None:
    tails = tiny_models().members["tail_detector"].native
    phases = session_phases(*clock(rows))
    assert identical(phases, numpy_reference.session_phases(*clock(rows)))
    assert set(phases.tolist()) == set(range(len(PHASES)))
    values = rows[:, [COLUMNS.index(name) for name in tails.features]]
    expected = numpy_reference.weighted_surprises(tails, values, phases)
    assert identical(tails.weighted(values, phases), expected)

    member = tiny_models().members["tail_detector"]
    inputs = rows[:, [COLUMNS.index(name) for name in member.spec.input.columns]]
    found = TailDetector(member.spec, tails).predict(inputs[:, np.newaxis, :])
    assert identical(found.statistic, expected.max(axis=1))
    assert found.contributions is not None
    places = [member.spec.input.columns.index(name) for name in tails.features]
    assert identical(found.contributions[:, places], expected)
    assert np.count_nonzero(np.delete(found.contributions, places, axis=1)) == 0


@pytest.mark.parametrize(
    "rules", [FLOORS, WARMUP_RULES, tuple(EVIDENCE.values())], ids=["floors", "warmup", "evidence"]
)
def test_strengths_of_rules_are_numpys(rows: np.ndarray, rules: tuple) -> None:
    expected = numpy_reference.strengths(rows, rules, COLUMNS)
    assert identical(strengths(rows, rules, COLUMNS), expected)
    assert len(np.unique(expected)) > 1_000
    if rules == FLOORS:
        strongest = expected.max(axis=1)
        assert identical(floor_scores(rows, COLUMNS), strongest / (1.0 + strongest))


def test_calibrations_are_numpys(rows: np.ndarray) -> None:
    statistic = rows[:, 0]
    knots, scores = np.array([-1.0, 0.0, 0.5, 30.0]), np.array([0.0, 0.25, 0.5, 1.0])
    assert identical(calibrated(statistic, knots, scores), numpy_reference.calibrated(statistic, knots, scores))
    for threshold in (0.05, 0.4, 0.995):
        expected = numpy_reference.centred_on_threshold(statistic, threshold)
        assert identical(centred_on_threshold(statistic, threshold), expected)


def test_inputs_and_errors_of_the_autoencoder_are_numpys(rows: np.ndarray) -> None:
    member = tiny_models().members["autoencoder"]
    model = Autoencoder.load(member.spec, member.files)
    inputs = rows[:20_000, [COLUMNS.index(name) for name in member.spec.input.columns]]
    assert identical(as_float32(inputs), numpy_reference.as_float32(inputs))
    scaled, missing = scaled_inputs(inputs, model.scaling)
    assert identical(scaled, numpy_reference.scale(inputs, model.scaling))
    assert identical(scaled, scale(inputs, model.scaling))
    assert np.array_equal(missing, np.isnan(inputs))
    outputs = model.session.run(None, {model.session.get_inputs()[0].name: scaled})[-1].astype(np.float64)
    for found, expected in zip(
        reconstruct(model.session, scaled, missing), numpy_reference.mean_squares(scaled, outputs, missing), strict=True
    ):
        assert identical(found, expected)


@pytest.mark.parametrize("columns", [1, 2, 6, 48])
def test_largest_contributions_are_numpys(rows: np.ndarray, columns: int) -> None:
    parts = np.minimum(np.abs(np.nan_to_num(rows[:, :columns])), 1e3).round(0)
    parts[::7] = 0.0
    expected = numpy_reference.top_contributions(parts, rows[:, :columns], TOP_FEATURES)
    for found, wanted in zip(top_contributions(parts, rows[:, :columns]), expected, strict=True):
        assert identical(found, wanted)


def test_scores_do_not_depend_on_the_split_into_batches(rows: np.ndarray) -> None:
    some = rows[:3_000]
    whole = floor_scores(some, COLUMNS)
    for size in (1, 2, 7, 1_000):
        parts = [floor_scores(some[start : start + size], COLUMNS) for start in range(0, len(some), size)]
        assert identical(np.concatenate(parts), whole)


@pytest.mark.parametrize("place", [0, 4, 9])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_finite_are_found_in_any_memory_layout(place: int, value: float) -> None:
    spec = tiny_models().members["tail_detector"].spec
    contributions = np.zeros((10, len(spec.input.columns)))
    assert find_problem(spec, AnomalyScores(np.zeros(10), contributions), 10) is None
    assert find_problem(spec, AnomalyScores(np.zeros(20)[::2], contributions), 10) is None
    statistics: list[Any] = [np.zeros(10), np.zeros(20)[::2], np.zeros(10, dtype=np.float32)]
    for statistic in statistics:
        statistic[place] = value
        assert find_problem(spec, AnomalyScores(statistic, contributions), 10) == "NaN or infinity"
