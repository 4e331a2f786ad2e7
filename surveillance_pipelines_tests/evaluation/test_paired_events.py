"""Planted events on held-out days, and the events that a bundle finds within the budget."""

from dataclasses import replace
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from surveillance_pipelines.evaluation.independent_shapes import SHAPES
from surveillance_pipelines.evaluation.paired_events import (
    EventRows,
    PlantedDays,
    count_pairs,
    event_rows,
    found_events,
    plant_days,
)
from surveillance_pipelines.models.bundle import Bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.warmup import WarmupRules
from surveillance_pipelines_tests.training.tiny_bundle import tiny_market

DAYS = (date(2024, 3, 8), date(2024, 3, 11))
EVENTS = 60


@cache
def planted(seed: int = 3) -> PlantedDays:
    bars, sessions = tiny_market()
    return plant_days(bars, DAYS, sessions, seed=seed, events=EVENTS)


@cache
def rows(view: str = "core_v1") -> EventRows:
    return event_rows(planted(), view)


class Scores:
    """Scores every bar by its number, so that a test knows which ones alert."""

    def __init__(self, clean: list[float], changed: list[float]) -> None:
        self._parts = [np.array(clean), np.array(changed)]

    def predict(self, _window: object) -> Any:
        return type("Predictions", (), {"anomaly_score": self._parts.pop(0)})


def test_plant_days_reaches_the_number_of_events_with_every_kind():
    days = planted()
    assert EVENTS <= len(days.kinds) < EVENTS + 12
    assert set(days.kinds) == set(SHAPES)
    assert len(days.copies) == len(days.bars) + 1
    assert sorted(number for part in days.bars for number in part["event"].unique()) == list(range(len(days.kinds)))


def test_plant_days_changes_only_the_held_out_days_and_is_seeded():
    first, second = planted().copies[0], planted().copies[1]
    assert first.filter(pl.col("date") < DAYS[0]).equals(second.filter(pl.col("date") < DAYS[0]))
    assert not first.equals(second)
    again = plant_days(*_market(), seed=3, events=EVENTS)
    assert all(one.equals(other) for one, other in zip(again.copies, planted().copies, strict=True))
    assert not plant_days(*_market(), seed=4, events=EVENTS).copies[1].equals(second)


def test_plant_days_without_volume_has_no_events():
    bars, _, sessions = _market()
    silent = plant_days(bars.with_columns(volume=pl.lit(0.0)), DAYS, sessions, seed=1)
    assert (silent.kinds, len(silent.copies)) == ((), 1)
    nothing = event_rows(silent, "core_v1")
    assert (len(nothing.changed), len(nothing.event)) == (0, 0)
    assert found_events(nothing, WarmupRules(), 0).found.shape == (0,)


def test_event_rows_hold_the_unchanged_bars_and_those_of_the_events():
    assert rows().clean.shape == (2_340, 1, 48)
    assert set(rows().event) == set(range(len(planted().kinds)))
    assert len(rows().changed) == sum(part.height for part in planted().bars)


def test_event_rows_of_longer_windows_end_with_the_same_bars():
    longer = event_rows(planted(), "core_v1", 3)
    assert longer.clean.shape[1:] == (3, 48)
    assert np.array_equal(longer.clean[:, -1:], rows().clean, equal_nan=True)
    assert np.array_equal(longer.changed[:, -1:], rows().changed, equal_nan=True)
    assert np.array_equal(longer.clean[5, 0], rows().clean[3, 0], equal_nan=True)


def test_found_events_never_uses_more_alerts_than_the_budget():
    inputs = inputs_of(4, [0, 0, 1, 2])
    flood: Any = Scores([0.9, 0.8, 0.7] + [0.1] * 777, [0.75, 0.2, 0.7, 0.6])
    found = found_events(inputs, flood, 4)
    assert found.threshold > 0.7  # two alerts per 780 bars are the budget
    assert found.found.tolist() == [True, False, False, False]
    assert found.alerts_per_day == pytest.approx(1.5)


def test_found_events_of_a_quiet_bundle_are_those_that_it_serves():
    inputs = inputs_of(3, [0, 1, 2])
    quiet: Any = Scores([0.3] * 780, [0.5, 0.49, 0.9])
    found = found_events(inputs, quiet, 3)
    assert (found.threshold, found.found.tolist()) == (0.5, [True, False, True])


def test_found_events_of_a_bundle_without_its_tail_detector_are_fewer(bundle: Bundle, scorer: Ensemble):
    view = scorer.feature_view
    inputs, events = event_rows(planted(), view), len(planted().kinds)
    whole = found_events(inputs, scorer, events).found
    poorer = Ensemble(replace(bundle, members=tuple(_without("tail_detector", bundle))))
    part = found_events(inputs, poorer, events).found
    assert whole.sum() > part.sum()
    counts = count_pairs(planted().kinds, part, whole)
    assert sum(found.events for found in counts.values()) == events
    assert sum(found.gained - found.lost for found in counts.values()) == int(part.sum()) - int(whole.sum())


def inputs_of(changed: int, events: list[int]) -> EventRows:
    return EventRows(
        clean=np.empty((780, 1, 1)),
        clean_bars=pl.DataFrame(),
        changed=np.empty((changed, 1, 1)),
        event=np.array(events),
    )


def _without(name: str, bundle: Bundle) -> list[Any]:
    return [replace(spec, serves=False, calibration=None) if spec.name == name else spec for spec in bundle.members]


def _market() -> Any:
    bars, sessions = tiny_market()
    return bars, DAYS, sessions
