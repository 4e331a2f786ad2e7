import numpy as np
import pytest

from surveillance_pipelines.models.momentum import momentum_probabilities

COLUMNS = ("other", "return_z_15")


def probabilities(*moves: float) -> np.ndarray:
    return momentum_probabilities(np.column_stack([np.full(len(moves), 7.0), moves]), COLUMNS)


@pytest.mark.requirement("MOD-10")
@pytest.mark.parametrize(
    ("move", "called"), [(0.0, 1), (1.9, 1), (2.1, 2), (-2.1, 0), (50.0, 2), (-50.0, 0), (np.nan, 1)]
)
def test_momentum_probabilities_call_moves_past_two_deviations(move, called):
    assert probabilities(move)[0].argmax() == called


def test_momentum_probabilities_are_a_distribution():
    rows = probabilities(*np.linspace(-6.0, 6.0, 50))
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)


def test_momentum_probabilities_mirror_the_move():
    np.testing.assert_array_equal(probabilities(2.7)[0], probabilities(-2.7)[0, ::-1])
