"""Shapley values against their definition: the mean gain of a player over all orders in which players arrive."""

from itertools import permutations

import numpy as np
import pytest

from surveillance_pipelines.models.attribution import (
    coalitions,
    scaled_to,
    shapley_values,
    shapley_values_of_largest,
)


def by_definition(worth: np.ndarray, players: int) -> np.ndarray:
    gains = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        present = 0
        for player in order:
            gains[player] += worth[present | 1 << player] - worth[present]
            present |= 1 << player
    return gains / len(orders)


@pytest.mark.parametrize("players", [1, 2, 3, 5, 6])
def test_shapley_values_equal_their_definition_and_add_up(players: int):
    worth = np.random.default_rng(players).normal(size=1 << players)
    values = shapley_values(worth)
    np.testing.assert_allclose(values, by_definition(worth, players), atol=1e-12)
    assert values.sum() == pytest.approx(worth[-1] - worth[0], abs=1e-12)


def test_player_that_never_changes_the_result_gets_nothing():
    members = coalitions(4)
    worth = np.asarray(members[:, 0] * 2.0 + members[:, 1] * members[:, 3], dtype=np.float64)
    assert shapley_values(worth).tolist() == [2.0, 0.5, 0.0, 0.5]


def test_values_of_an_additive_game_are_its_terms():
    terms = np.array([0.3, -1.2, 4.0, 0.0, 2.5])
    worth = coalitions(5).astype(np.float64) @ terms
    np.testing.assert_allclose(shapley_values(worth), terms, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_values_of_the_largest_equal_the_general_ones(seed: int):
    sizes = np.random.default_rng(seed).exponential(size=6)
    sizes[seed % 6] = sizes[(seed + 1) % 6]  # a tie
    worth = np.asarray(np.where(coalitions(6), sizes, 0.0).max(axis=1), dtype=np.float64)
    values = shapley_values_of_largest(sizes)
    np.testing.assert_allclose(values, shapley_values(worth), atol=1e-12)
    assert values.argmax() == sizes.argmax()
    assert values.sum() == pytest.approx(sizes.max(), abs=1e-12)


def test_parts_are_scaled_to_a_sum():
    assert scaled_to(np.array([1.0, 3.0]), 0.8).tolist() == pytest.approx([0.2, 0.6])
    assert scaled_to(np.zeros(3), 0.8).tolist() == [0.0, 0.0, 0.0]
    assert scaled_to(np.zeros(0), 0.8).tolist() == []
