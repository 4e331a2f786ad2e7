"""Probation of a champion: kept promises are rarely called broken, clear breaches always."""

import numpy as np
import pytest

from surveillance_pipelines.evaluation.probation import (
    BARS_PER_LOOK,
    LOOKS,
    MINUTES_PER_LOOK,
    Promise,
    ServedBlock,
    judge,
    look_of,
)

PROMISE = Promise(alerts_per_day=1.0, half_threshold_share=0.05)
BARS = 150  # ten symbols


def blocks(
    count: int, *, alerts: float, share: float = 0.05, fallback: float = 0.0, seed: int = 1
) -> list[ServedBlock]:
    """Return blocks with Poisson counts; ``alerts`` per symbol and 390 bars."""
    random = np.random.default_rng(seed)
    rates = [alerts / 390, share, fallback]
    drawn = random.poisson([rate * BARS for rate in rates], size=(count, 3))
    return [ServedBlock(bars=BARS, alerts=int(a), half_threshold=int(h), fallback=int(f)) for a, h, f in drawn]


def bursts(count: int, seed: int) -> list[ServedBlock]:
    """Return blocks with as many alerts as promised, all of them in one block of forty."""
    random = np.random.default_rng(seed)
    alerts = random.binomial(1, 1 / 40, size=count) * round(40 * BARS / 390)
    return [ServedBlock(bars=BARS, alerts=int(n), half_threshold=8, fallback=0) for n in alerts]


def test_judge_kept_promise_is_rarely_broken_in_any_look():
    broken = set[int]()
    for end in range(12, 61, 12):
        broken |= {seed for seed in range(100) if not judge(blocks(60, alerts=1.0, seed=seed)[:end], PROMISE).passed}
    assert len(broken) <= 3  # 1% of 100, with room for chance


def test_judge_bursts_within_the_promise_are_rarely_called_a_breach():
    broken = sum(not judge(bursts(60, seed), PROMISE).passed for seed in range(100))
    assert broken <= 3


@pytest.mark.parametrize(
    ("served", "rule"),
    [
        (blocks(26, alerts=6.0), "alerts_per_symbol_day_lower_bound"),
        (blocks(26, alerts=0.5, share=0.6), "half_threshold_share_lower_bound"),
        (blocks(26, alerts=0.0, share=0.0), "half_threshold_share_upper_bound"),
        (blocks(26, alerts=0.5, fallback=0.3), "fallback_share_lower_bound"),
    ],
)
def test_judge_names_the_broken_promise(served: list[ServedBlock], rule: str):
    decision = judge(served, PROMISE)
    assert not decision.passed
    assert decision.reasons[0].startswith(f"{rule} fails: ")


def test_judge_of_a_version_without_recorded_scores_has_the_other_rules():
    names = {rule.name for rule in judge(blocks(26, alerts=0.5, share=0.6), Promise()).rules}
    assert names == {"alerts_per_symbol_day_lower_bound", "fallback_share_lower_bound"}


def test_judge_one_block_decides_nothing():
    assert judge(blocks(1, alerts=300.0, share=0.9), PROMISE).passed
    assert judge([], PROMISE).passed


def test_look_of_needs_bars_and_minutes():
    assert look_of(BARS_PER_LOOK - 1, 390) == 0
    assert look_of(1_000_000, MINUTES_PER_LOOK - 1) == 0  # thousands of symbols in half an hour
    assert look_of(2 * BARS_PER_LOOK, 2 * MINUTES_PER_LOOK) == 2
    assert look_of(10**9, 10**6) == LOOKS
