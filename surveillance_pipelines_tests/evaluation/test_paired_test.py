"""The paired test, on simulated pairs of found and missed events whose true gain is known."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from surveillance_pipelines.evaluation.paired_test import (
    EVENTS,
    LEVEL,
    MIN_GAIN,
    PairedCounts,
    compare,
    gain_p_value,
    kind_p_value,
    total,
)

KINDS = 9
TRIALS = 1_000


def draw(gain: float, disagreed: float, random: np.random.Generator, events: int = EVENTS) -> dict[str, PairedCounts]:
    """Return counts of kinds with the same true gain; ``disagreed`` is the share of events that only one finds."""
    shares = [(disagreed + gain) / 2, (disagreed - gain) / 2, 0.6 - disagreed / 2]
    drawn = random.multinomial(events // KINDS, [*shares, 1.0 - sum(shares)], size=KINDS)
    return {
        f"kind_{number}": PairedCounts(events=events // KINDS, gained=int(row[0]), lost=int(row[1]), both=int(row[2]))
        for number, row in enumerate(drawn)
    }


def promoted(gain: float, disagreed: float, seed: int) -> float:
    random = np.random.default_rng(seed)
    return float(np.mean([compare(draw(gain, disagreed, random)).better.passed for _ in range(TRIALS)]))


@pytest.mark.parametrize("disagreed", [0.02, 0.05, 0.1, 0.2, 0.3])
def test_compare_equal_challenger_is_rarely_better(disagreed: float):
    assert promoted(0.0, disagreed, seed=1) <= 0.01
    assert promoted(MIN_GAIN, disagreed, seed=2) <= LEVEL + 0.01


@pytest.mark.parametrize("disagreed", [0.05, 0.1, 0.2])
def test_compare_worse_challenger_is_never_better(disagreed: float):
    assert promoted(-0.03, disagreed, seed=3) == 0.0


@pytest.mark.parametrize(("gain", "disagreed"), [(0.05, 0.06), (0.05, 0.1), (0.05, 0.2), (0.07, 0.3), (0.2, 0.3)])
def test_compare_better_challenger_is_found(gain: float, disagreed: float):
    assert promoted(gain, disagreed, seed=4) >= 0.9


def test_compare_power_as_documented():
    assert promoted(0.05, 0.2, seed=5) == pytest.approx(0.95, abs=0.02)
    assert promoted(0.04, 0.2, seed=6) == pytest.approx(0.76, abs=0.03)


def test_compare_refuses_a_gain_that_loses_a_kind():
    good = {f"kind_{number}": PairedCounts(events=200, gained=60, lost=0, both=100) for number in range(7)}
    lost = {"volume_spike": PairedCounts(events=200, gained=0, lost=20, both=150)}
    decision = compare({**good, **lost}).better
    assert not decision.passed
    assert decision.reasons[0].startswith("not_worse_than_champion_on_volume_spike_p_value fails")


def test_compare_refuses_a_gain_of_a_bundle_that_floods():
    found = {"price_gap": PairedCounts(events=EVENTS, gained=500, lost=0, both=500)}
    assert compare(found, alerts=1.9, champion_alerts=0.5).better.passed
    assert compare(found, alerts=5.5, champion_alerts=4.6).better.passed  # a volatile market, in which both alert more
    for decision in (compare(found, alerts=2.1, champion_alerts=0.5).better, compare(found, alerts=40.0).not_worse):
        assert not decision.passed
        assert decision.reasons[0].startswith("alerts_per_unchanged_symbol_day fails: ")


def test_compare_identical_bundles_is_not_better_and_not_worse():
    tested = compare({"price_gap": PairedCounts(events=EVENTS, gained=0, lost=0, both=1_000)})
    assert not tested.better.passed
    assert tested.not_worse.passed


def test_compare_without_events_decides_nothing():
    tested = compare({})
    assert not tested.better.passed
    assert not tested.not_worse.passed


def test_gain_p_value_uses_the_likeliest_share_under_the_null_hypothesis():
    counts, gain = PairedCounts(events=500, gained=60, lost=40), 0.03

    def negative_likelihood(share: float) -> float:
        same = counts.events - counts.gained - counts.lost
        return -float(
            counts.gained * np.log(share + gain) + counts.lost * np.log(share) + same * np.log(1 - 2 * share - gain)
        )

    share = minimize_scalar(negative_likelihood, bounds=(1e-6, 0.48), method="bounded", options={"xatol": 1e-12}).x
    deviation = np.sqrt(counts.events * (2 * share + gain * (1 - gain)))
    assert gain_p_value(counts, gain) == pytest.approx(
        norm.sf((counts.gained - counts.lost - counts.events * gain) / deviation), abs=1e-6
    )


def test_gain_p_value_at_zero_is_mcnemars_test():
    counts = PairedCounts(events=900, gained=30, lost=12)
    assert gain_p_value(counts, 0.0) == pytest.approx(norm.sf(18 / np.sqrt(42)))


@pytest.mark.parametrize("gain", [-0.02, 0.0, 0.01])
def test_gain_p_value_at_the_edges_is_a_probability(gain: float):
    for counts in (
        PairedCounts(events=10, gained=0, lost=0),
        PairedCounts(events=10, gained=10, lost=0),
        PairedCounts(events=10, gained=0, lost=10),
        PairedCounts(events=0, gained=0, lost=0),
    ):
        assert 0.0 <= gain_p_value(counts, gain) <= 1.0


def test_kind_p_value_tolerates_a_small_loss():
    assert kind_p_value(PairedCounts(events=150, gained=0, lost=7)) > 0.3
    assert kind_p_value(PairedCounts(events=150, gained=2, lost=30)) < 1e-3
    assert kind_p_value(PairedCounts(events=150, gained=0, lost=0)) == pytest.approx(1.0, abs=0.01)


def test_paired_counts_add_and_refuse_more_than_their_events():
    added = total([PairedCounts(events=10, gained=1, lost=2, both=3), PairedCounts(events=5, gained=1, lost=0, both=4)])
    assert added == PairedCounts(events=15, gained=2, lost=2, both=7)
    assert (added.gain, added.challenger_recall, added.champion_recall) == (0.0, 9 / 15, 9 / 15)
    with pytest.raises(ValueError, match="at most 3 events"):
        PairedCounts(events=3, gained=2, lost=2)
