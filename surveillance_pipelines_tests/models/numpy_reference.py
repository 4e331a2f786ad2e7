"""The arithmetic of ``models/score_kernel.py`` in numpy, to which the compiled form is bit-identical."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.models.autoencoder import Scaling
from surveillance_pipelines.models.rules import TWO_SIDED, Rule
from surveillance_pipelines.models.session_phase import AROUND_THE_CLOCK_MINUTES, CLOSE_MINUTES, OPEN_MINUTES, PHASES
from surveillance_pipelines.models.tail_detector import Tails

Floats = npt.NDArray[np.float64]


def session_phases(progress: Floats, minutes_to_close: Floats) -> npt.NDArray[np.int64]:
    length = minutes_to_close / (1.0 - progress)
    phase = np.full(len(progress), PHASES.index("day"), dtype=np.int64)
    phase[progress * length < OPEN_MINUTES] = PHASES.index("open")
    phase[minutes_to_close <= CLOSE_MINUTES] = PHASES.index("close")
    phase[progress < 0.0] = PHASES.index("pre")
    phase[progress >= 1.0] = PHASES.index("post")
    phase[length >= AROUND_THE_CLOCK_MINUTES] = PHASES.index("around_the_clock")
    return phase


def weighted_surprises(tails: Tails, values: Floats, phases: npt.NDArray[np.int64]) -> Floats:
    sizes = np.where(tails.two_sided, np.abs(values), values)
    knots, surprise = tails.knots[phases], tails.surprise[phases]
    right = np.clip((knots <= sizes[:, :, np.newaxis]).sum(axis=2), 1, knots.shape[2] - 1)[:, :, np.newaxis]
    high, low = (np.take_along_axis(knots, place, axis=2)[:, :, 0] for place in (right, right - 1))
    end, start = (np.take_along_axis(surprise, place, axis=2)[:, :, 0] for place in (right, right - 1))
    part = np.minimum(np.maximum((sizes - low) / (high - low), 0.0), 1.0)
    surprises = np.where(np.isnan(sizes), 0.0, start + part * (end - start))
    return np.maximum(surprises + np.log(tails.shares), 0.0)


def strengths(features: Floats, rules: Sequence[Rule], columns: Sequence[str]) -> Floats:
    def column(name: str) -> Floats:
        return features[:, columns.index(name)]

    found = np.full((len(features), len(rules)), np.inf)
    for number, rule in enumerate(rules):
        for name, limit in rule.limits:
            values = column(name)
            sizes = np.where(name in TWO_SIDED, np.abs(values), np.maximum(values, 0.0)) / limit
            ratios = np.where(np.isnan(sizes), 0.0, np.minimum(sizes, np.finfo(np.float64).max))
            found[:, number] = np.minimum(found[:, number], ratios)
        for name, limit in rule.at_most:
            found[:, number] = np.where(column(name) <= limit, found[:, number], 0.0)
        if rule.last_minutes is not None:
            left = column("minutes_to_close")
            applies = (left > 0.0) & (left <= rule.last_minutes)
            if rule.needs_close:
                applies &= left / (1.0 - column("session_progress")) < AROUND_THE_CLOCK_MINUTES
            found[:, number] = np.where(applies, found[:, number], 0.0)
    return found


def calibrated(statistic: Floats, knots: Floats, scores: Floats) -> Floats:
    right = np.minimum(np.maximum(knots.searchsorted(statistic, side="right"), 1), len(knots) - 1)
    left = right - 1
    part = np.minimum(np.maximum((statistic - knots[left]) / (knots[right] - knots[left]), 0.0), 1.0)
    return scores[left] + part * (scores[right] - scores[left])


def centred_on_threshold(probability: Floats, threshold: float) -> Floats:
    below = 0.5 * probability / threshold
    above = 0.5 + (1.0 - 0.5) * (probability - threshold) / (1.0 - threshold)
    return np.minimum(np.maximum(np.where(probability < threshold, below, above), 0.0), 1.0)


def as_float32(values: Floats) -> npt.NDArray[np.float32]:
    largest = float(np.finfo(np.float32).max)
    return np.minimum(np.maximum(values, -largest), largest).astype(np.float32)


def scale(inputs: Floats, scaling: Scaling) -> npt.NDArray[np.float32]:
    scaled = np.minimum(np.maximum((inputs - scaling.center) / scaling.scale, -scaling.clip), scaling.clip)
    scaled[np.isnan(scaled)] = 0.0
    return scaled.astype(np.float32)


def mean_squares(scaled: npt.NDArray[np.float32], reconstructed: Floats, missing: Any) -> tuple[Floats, Floats]:
    difference = scaled.astype(np.float64) - reconstructed
    squares = np.where(missing, 0.0, difference * difference)
    return np.add.accumulate(squares, axis=1)[:, -1] / np.maximum((~missing).sum(axis=1), 1), squares


def top_contributions(parts: Floats, values: Floats, count: int) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    rows, left = np.arange(len(parts)), parts.copy()
    top = np.empty((len(parts), count), dtype=np.int64)
    for place in range(count):
        top[:, place] = left.argmax(axis=1)
        left[rows, top[:, place]] = -np.inf
    total = np.add.accumulate(parts, axis=1)[:, -1:]
    largest = parts[rows[:, np.newaxis], top]
    shares = np.divide(largest, total, out=np.zeros_like(largest), where=total > 0)
    return top, shares, values[rows[:, np.newaxis], top]
