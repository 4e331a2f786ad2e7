"""Possible stock splits: moves over night that are a simple ratio, far outside usual moves, at usual turnover."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

SPLITS: Final = (
    (5, 4), (4, 3), (3, 2), (2, 1), (5, 2), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (10, 1), (15, 1), (20, 1),
    (25, 1), (30, 1), (40, 1), (50, 1), (100, 1),
)  # fmt: skip
"""Usual splits, as new shares for old ones. Reverse splits are the inverses, from 2:1 on: smaller ones are not done."""

LEAST_MOVES: Final = 3
"""Moves over night from which the usual size of a move is known."""
LEAST_SIGMAS: Final = 6.0
SMALLEST_SIGMA: Final = 0.01
"""Lower bound of the robust standard deviation of moves over night, as a logarithm; a week may be very quiet."""
SMALL: Final = 1.45
LARGE: Final = 2.9
"""Below the first, news moves prices as far as a split does; from the second on, hardly ever at usual turnover."""
TOLERANCES: Final = (0.01, 0.025, 0.08, 0.2)
"""Tolerated distance from the ratio, as a logarithm, because the market moves on the day of a split, too: of small
ratios; of others at least and at most, with one sigma in between; of large ratios."""
LARGEST_TURNOVER: Final = 3.0
"""A split hardly changes the money that is traded; news that halve a price multiply it."""
LARGE_REVERSE_TURNOVER: Final = 20.0
"""The same for large reverse splits, which come with heavy trading: no news multiply a price overnight."""

_MAD_TO_SIGMA: Final = 1.4826


@dataclass(frozen=True, slots=True)
class Split:
    """A possible split: ``new`` shares for ``old`` ones.

    Attributes:
        new: new shares.
        old: shares that they replace; more than ``new`` in a reverse split.
        distance: difference of the move from the ratio, as a logarithm.
        sigmas: size of the move, in robust standard deviations of the usual moves over night.
        turnover: traded money, as a multiple of the usual; NaN if no volume is known.
    """

    new: int
    old: int
    distance: float
    sigmas: float
    turnover: float


def possible_split(
    previous_close: float, opening: float, moves: Sequence[float], *, turnover: float, usual_turnover: float
) -> Split | None:
    """Return the split that explains a move over night; None if it is no ratio, or not unusual.

    Args:
        previous_close: last price of the session before.
        opening: first price of the session.
        moves: log moves over night of the sessions before, at least ``LEAST_MOVES`` for a result.
        turnover: price times volume of the session so far.
        usual_turnover: the same of the sessions before, for the same minutes; 0 if volumes are not reported.
    """
    if len(moves) < LEAST_MOVES or min(previous_close, opening) <= 0.0:
        return None
    move, sigma = math.log(opening / previous_close), _robust_sigma(moves)
    ratio = min(_RATIOS, key=lambda each: abs(move + math.log(each[0] / each[1])))
    distance = move + math.log(ratio[0] / ratio[1])
    times = turnover / usual_turnover if usual_turnover > 0.0 else math.nan
    most = LARGE_REVERSE_TURNOVER if ratio[1] > LARGE * ratio[0] else LARGEST_TURNOVER
    if abs(distance) > _tolerance(ratio, sigma) or abs(move) < LEAST_SIGMAS * sigma or times > most:
        return None
    return Split(*ratio, distance=distance, sigmas=abs(move) / sigma, turnover=times)


_RATIOS: Final = (*SPLITS, *((old, new) for new, old in SPLITS if new >= 2 * old))


def _tolerance(ratio: tuple[int, int], sigma: float) -> float:
    size = max(ratio) / min(ratio)
    tight, low, high, wide = TOLERANCES
    return tight if size < SMALL else wide if size > LARGE else min(max(sigma, low), high)


def _robust_sigma(moves: Sequence[float]) -> float:
    values = np.asarray(moves)
    deviation = float(np.median(np.abs(values - np.median(values))))
    return max(_MAD_TO_SIGMA * deviation, SMALLEST_SIGMA)
