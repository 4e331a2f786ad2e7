"""Additive attribution: Shapley values, which divide a result among the features that produce it.

Shapley, "A value for n-person games" (1953). The values add up to the result of all players less that of none.
"""

from functools import cache
from math import factorial

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@cache
def coalitions(players: int) -> npt.NDArray[np.bool_]:
    """Return all subsets of players, bool[2^players, players]; the bits of a row's number are its players."""
    return (np.arange(1 << players)[:, np.newaxis] >> np.arange(players)) & 1 == 1


@cache
def _weights(players: int) -> Floats:
    """Return the weight of a subset without the player, by its size, float64[players]."""
    total = factorial(players)
    return np.array([factorial(size) * factorial(players - size - 1) / total for size in range(players)])


def shapley_values(worth: Floats) -> Floats:
    """Return the exact Shapley value of each player, float64[p].

    Args:
        worth: float64[2^p], the result of each subset in the order of ``coalitions``.
    """
    players = len(worth).bit_length() - 1
    members = coalitions(players)
    sizes = members.sum(axis=1)
    values = np.empty(players)
    for player in range(players):
        without = np.flatnonzero(~members[:, player])
        gains = worth[without | (1 << player)] - worth[without]
        values[player] = float(np.add.accumulate(_weights(players)[sizes[without]] * gains)[-1])
    return values


def shapley_values_of_largest(sizes: Floats) -> Floats:
    """Return the Shapley values of the game in which a subset is worth its largest size, float64[p].

    The airport game (Littlechild and Owen, "A simple expression for the Shapley value in a special case", Management
    Science 1973). The values are at least 0 and add up to the largest size.

    Args:
        sizes: float64[p], at least 0.
    """
    order = np.argsort(sizes, kind="stable")
    steps = np.diff(sizes[order], prepend=0.0) / np.arange(len(sizes), 0, -1)
    values = np.empty(len(sizes))
    values[order] = np.add.accumulate(steps)
    return values


def scaled_to(parts: Floats, total: float) -> Floats:
    """Return parts, at least 0, in the same proportions with the sum ``total``; zeros if all are 0."""
    whole = float(np.add.accumulate(parts)[-1]) if len(parts) else 0.0
    return parts * (total / whole) if whole > 0.0 else np.zeros(len(parts))
