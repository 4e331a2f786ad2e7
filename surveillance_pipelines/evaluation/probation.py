"""Probation of a new champion: what it does on its first served bars against what it promised. No I/O.

The served bars are counted in blocks of ``BLOCK_MINUTES``. Alerts come in bursts, so a rate is judged by the variation
between blocks as well as by the Poisson distribution of its count, whichever is more doubtful.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from surveillance_pipelines.evaluation.gate import GateDecision, GateRule
from surveillance_pipelines.evaluation.thresholds import ALERTS_PER_SYMBOL_DAY, BARS_PER_DAY
from surveillance_pipelines.models.calibration import THRESHOLD

LOOKS: Final = 10
"""Number of times a champion is judged; the probation ends with the last."""
BARS_PER_LOOK: Final = 390
MINUTES_PER_LOOK: Final = 39
"""A look needs so many more served bars and different minutes than the one before, so that the probation lasts at least
``LOOKS * BARS_PER_LOOK`` bars and one session, for one symbol as for thousands."""

LEVEL: Final = 0.01
"""Probability that a champion that keeps its promises breaks a rule in any look, if blocks are independent."""

BLOCK_MINUTES: Final = 15
HALF_THRESHOLD: Final = THRESHOLD / 2
"""The score distribution is compared at this score: often enough reached to be counted within a session."""
SHARE_FACTOR: Final = 5.0
"""Factor by which the share of bars at ``HALF_THRESHOLD`` may differ from that of the test days, in both directions:
days differ by less, a wrong scale of the inputs or thresholds by more."""
MAX_FALLBACK: Final = 0.05
"""Share of bars scored without one of the members."""

RULES: Final = 4

_DRAWS: Final = 20_000
_SEED: Final = 1

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a version promised with its evaluation.

    Attributes:
        alerts_per_day: alerts per symbol and 390 ordinary bars: the budget, or what the evaluation measured if more.
        half_threshold_share: share of the unchanged test bars with a score of at least ``HALF_THRESHOLD``; None for a
            version that was evaluated before this was recorded.
    """

    alerts_per_day: float = ALERTS_PER_SYMBOL_DAY
    half_threshold_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedBlock:
    """Served bars of ``BLOCK_MINUTES``.

    Attributes:
        bars: their number.
        alerts: those with an alert.
        half_threshold: those with a score of at least ``HALF_THRESHOLD``.
        fallback: those scored without one of the members.
    """

    bars: int
    alerts: int
    half_threshold: int
    fallback: int


def look_of(bars: int, minutes: int) -> int:
    """Return the number of the newest look that the served bars and different minutes allow; 0 before the first."""
    return min(bars // BARS_PER_LOOK, minutes // MINUTES_PER_LOOK, LOOKS)


def judge(blocks: Sequence[ServedBlock], promise: Promise) -> GateDecision:
    """Judge the first served bars of a champion.

    Args:
        blocks: the served bars, each block once.
        promise: what the version promised.

    Returns:
        The rules: the lower bound of the alerts per symbol and day at most the promise; the share of bars from
        ``HALF_THRESHOLD`` on within ``SHARE_FACTOR`` of the promise; the lower bound of the share of bars scored
        without a member at most ``MAX_FALLBACK``.
    """
    bars = np.array([block.bars for block in blocks], dtype=np.float64)
    alerts = _bounds(np.array([block.alerts for block in blocks], dtype=np.float64), bars)
    fallback = _bounds(np.array([block.fallback for block in blocks], dtype=np.float64), bars)
    rules = [
        GateRule("alerts_per_symbol_day_lower_bound", BARS_PER_DAY * alerts[0], promise.alerts_per_day, at_most=True),
        GateRule("fallback_share_lower_bound", fallback[0], MAX_FALLBACK, at_most=True),
    ]
    if promise.half_threshold_share:
        share = _bounds(np.array([block.half_threshold for block in blocks], dtype=np.float64), bars)
        most, least = promise.half_threshold_share * SHARE_FACTOR, promise.half_threshold_share / SHARE_FACTOR
        rules += [
            GateRule("half_threshold_share_lower_bound", share[0], most, at_most=True),
            GateRule("half_threshold_share_upper_bound", share[1], least),
        ]
    return GateDecision(tuple(rules))


def _bounds(counts: Floats, bars: Floats) -> tuple[float, float]:
    """Return the bounds of the rate of counts per bar: the wider of two intervals, each with the level of one rule.

    One is exact for a Poisson count (Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28, 1936); the
    other is the percentile interval of a bootstrap that draws whole blocks (Efron and Tibshirani, "An Introduction to
    the Bootstrap", 1993, section 13.3), whose lower bound stays 0 while few blocks have all of the alerts.
    """
    total, size, n = float(counts.sum()), float(bars.sum()), len(bars)
    if n < 2 or size == 0.0:
        return 0.0, 1.0
    level = LEVEL / (LOOKS * RULES)
    drawn = _draws(n)
    rates = (drawn @ counts) / np.maximum(drawn @ bars, 1.0)
    low = float(chi2.ppf(level, 2 * total)) / 2 / size if total else 0.0
    high = float(chi2.isf(level, 2 * (total + 1))) / 2 / size
    return min(low, float(np.quantile(rates, level))), max(high, float(np.quantile(rates, 1.0 - level)))


@lru_cache(maxsize=4)
def _draws(blocks: int) -> Floats:
    """Return how often each block is drawn, float64[_DRAWS, blocks].

    Poisson weights are the limit of drawing as many blocks as there are, and much faster to draw.
    """
    return np.random.default_rng(_SEED).poisson(1.0, size=(_DRAWS, blocks)).astype(np.float64)
