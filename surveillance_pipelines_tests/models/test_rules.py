"""Floors, evidence and session phases."""

import numpy as np
import pytest

from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS, UNCLASSIFIED
from surveillance_pipelines.contracts.predictions import NORMAL, AnomalyKinds
from surveillance_pipelines.features.views import CORE_V2
from surveillance_pipelines.models.fusion import floor_scores, fuse_with_floors
from surveillance_pipelines.models.rules import EVIDENCE, strengths
from surveillance_pipelines.models.session_phase import PHASES, session_phases

LABELS = (NORMAL, *ANOMALY_KINDS)
QUIET = {"minutes_to_close": 200.0, "session_progress": 190.0 / 390.0, "in_session": 1.0}


def bar(**values: float) -> np.ndarray:
    features = np.zeros((1, len(CORE_V2.columns)))
    for name, value in (QUIET | values).items():
        features[0, CORE_V2.columns.index(name)] = value
    return features


def fused(features: np.ndarray, *, likely: str = NORMAL, classifier: float = 0.0, other: float = 0.0):
    probabilities = np.full((len(features), len(LABELS)), 0.01)
    probabilities[:, LABELS.index(likely)] = 0.9
    others = [np.full(len(features), other), floor_scores(features, CORE_V2.columns)]
    own = np.full(len(features), classifier)
    return fuse_with_floors(
        AnomalyKinds(LABELS, probabilities), own, others, features=features, columns=CORE_V2.columns
    )


def kind_of(found) -> str:
    return (*LABELS, UNCLASSIFIED)[found.kind_codes[0]]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"volume_z": 8.1}, "volume_spike"),
        ({"gap_z": -20.5}, "price_gap"),
        ({"return_z": -29.0}, UNCLASSIFIED),
        ({"range_ratio": 26.0}, UNCLASSIFIED),
    ],
)
def test_bar_past_a_floor_alerts_although_every_model_is_calm(values, kind):
    found = fused(bar(**values))
    assert found.score[0] > 0.5
    assert kind_of(found) == kind


@pytest.mark.parametrize(
    "values", [{"volume_z": 7.9}, {"return_z": 29.0, "new_session": 1.0}, {"gap_z": np.nan}, {"volume_z": -30.0}]
)
def test_bar_below_the_floors_or_after_a_night_stays_calm(values):
    found = fused(bar(**values))
    assert found.score[0] < 0.5
    assert kind_of(found) == NORMAL


def test_kind_with_evidence_is_named_with_its_probability():
    found = fused(bar(gap_z=3.5), likely="price_gap", classifier=0.8)
    assert (kind_of(found), found.confidence[0], found.refused[0]) == ("price_gap", 0.9, -1)


def test_kind_without_evidence_is_refused_and_reported():
    found = fused(bar(gap_z=2.8), likely="price_gap", classifier=0.8)
    assert (kind_of(found), found.confidence[0]) == (UNCLASSIFIED, 0.8)
    assert LABELS[found.refused[0]] == "price_gap"


def test_next_likeliest_kind_with_evidence_replaces_one_without():
    found = fused(bar(gap_z=1.0, volume_z=4.0), likely="price_gap", classifier=0.8)
    assert kind_of(found) == "volume_spike"
    assert LABELS[found.refused[0]] == "price_gap"


def test_marking_the_close_does_not_exist_on_a_market_without_a_close():
    last = {"return_z_5": 6.0, "minutes_to_close": 5.0}
    share = 1.0 - 5.0 / 390.0
    assert kind_of(fused(bar(**last, session_progress=share), likely="marking_the_close", classifier=0.9)) == (
        "marking_the_close"
    )
    around_the_clock = bar(**last, session_progress=1.0 - 5.0 / 1440.0)
    found = fused(around_the_clock, likely="marking_the_close", classifier=0.9)
    assert kind_of(found) != "marking_the_close"
    assert LABELS[found.refused[0]] == "marking_the_close"


def test_anomaly_that_the_classifier_misses_gets_the_kind_of_the_rule_that_it_reaches():
    assert kind_of(fused(bar(volume_z=5.5), other=0.7)) == "volume_spike"
    assert kind_of(fused(bar(volume_z=4.5), other=0.7)) == UNCLASSIFIED


def test_every_kind_needs_evidence():
    assert set(EVIDENCE) == set(ANOMALY_KINDS)
    assert (strengths(bar(), tuple(EVIDENCE.values()), CORE_V2.columns) < 1.0).all()


@pytest.mark.parametrize(
    ("minute", "length", "phase"),
    [
        (-30.0, 390.0, "pre"),
        (0.0, 390.0, "open"),
        (29.0, 390.0, "open"),
        (30.0, 390.0, "day"),
        (374.0, 390.0, "day"),
        (375.0, 390.0, "close"),
        (389.0, 390.0, "close"),
        (390.0, 390.0, "post"),
        (500.0, 390.0, "post"),
        (0.0, 1440.0, "around_the_clock"),
        (1439.0, 1440.0, "around_the_clock"),
        (np.nan, np.nan, "day"),
    ],
)
def test_session_phase_of_a_minute(minute, length, phase):
    found = session_phases(np.array([minute / length]), np.array([length - minute]))
    assert PHASES[found[0]] == phase


# The first bar after news in the night: a large move, and more volume than the minutes before.
OPENING = {"gap_z": -49.0, "return_z": -49.2, "return_z_15": -12.5, "price_volume_divergence": 46.0, "new_session": 1.0}


def test_move_over_night_that_the_classifier_misses_is_a_price_gap():
    assert kind_of(fused(bar(**OPENING), other=0.6)) == "price_gap"


def test_move_over_night_shows_no_divergence_from_the_volume():
    found = fused(bar(**OPENING), likely="price_volume_divergence", classifier=0.6)
    assert LABELS[found.refused[0]] == "price_volume_divergence"
    within = fused(bar(**OPENING | {"new_session": 0.0}), likely="price_volume_divergence", classifier=0.6)
    assert kind_of(within) == "price_volume_divergence"
