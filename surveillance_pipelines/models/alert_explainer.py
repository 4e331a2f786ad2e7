"""Explanation of one alert: which features produced its score, and which change would have prevented it.

The work is done only for rows that raise an alert: the models score the bar again with subsets of its features replaced
by ordinary values, in batches of bounded size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.models.attribution import (
    coalitions,
    scaled_to,
    shapley_values,
    shapley_values_of_largest,
)
from surveillance_pipelines.models.bundle_predictions import TOP_FEATURES, BundlePredictions
from surveillance_pipelines.models.contract import FeatureWindow
from surveillance_pipelines.models.feature_groups import READABLE, groups_of, in_words
from surveillance_pipelines.models.ordinary_values import OrdinaryValues

Floats = npt.NDArray[np.float64]

STEPS: Final = 32
"""Steps in which a change towards the ordinary value is tried."""
_NAMED_SHARE: Final = 0.1
"""Share of the score from which a feature is named in the summary."""
_TRIED: Final = 8
"""Features of which all subsets are tried for the smallest change."""
_SMALLEST_PROBABILITY: Final = 1e-12


class Scorer(Protocol):
    """What the explanation needs of the models.

    ``column_scores`` returns, per column of a bar, the largest score that a detector with one score per column gives
    it, float64[F]: the tail detector and the floors.
    """

    def predict(self, window: FeatureWindow) -> BundlePredictions: ...

    def column_scores(self, window: FeatureWindow) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Contribution:
    """The part of an alert's score that one feature has.

    Attributes:
        name: name of the feature.
        value: its value.
        expected: its ordinary value in the session phase.
        contribution: its part of the score; positive if the value is above the expected one, negative if below. The
            absolute values of all contributions add up to the score.
    """

    name: str
    value: float
    expected: float
    contribution: float


@dataclass(frozen=True, slots=True)
class Change:
    """The value that a feature would need; all changes of an explanation together lower the score below 0.5."""

    name: str
    value: float
    instead: float


@dataclass(frozen=True, slots=True)
class AlertExplanation:
    """The explanation of one alert.

    Attributes:
        contributions: the contributions, largest first.
        changes: the changes that would have prevented the alert; None if none was found.
        words: both in words.
    """

    contributions: tuple[Contribution, ...]
    changes: tuple[Change, ...] | None
    words: str

    def to_json(self) -> dict[str, Any]:
        """Return the entries of an explanation, JSON-safe."""
        changes = None if self.changes is None else [_entries(change) for change in self.changes]
        contributions = [_entries(each) for each in self.contributions]
        return {"words": self.words, "contributions": contributions, "would_not_alert_if": changes}


class AlertExplainer:
    """Explains alerts of one bundle.

    Args:
        scorer: the models.
        ordinary: ordinary values of the training.
        columns: columns of the feature view.
    """

    def __init__(self, scorer: Scorer, ordinary: OrdinaryValues, columns: Sequence[str]) -> None:
        self._scorer: Final = scorer
        self._ordinary: Final = ordinary
        self._columns: Final = tuple(columns)
        self._groups: Final = groups_of(columns)
        self._clock: Final = [self._columns.index(name) for name in ("session_progress", "minutes_to_close")]

    def explain(self, window: FeatureWindow) -> AlertExplanation:
        """Return the explanation of a bar whose score reaches the threshold.

        Args:
            window: float64[length, F].

        Raises:
            ModelFailedError: if a model fails.
        """
        bar = _Bar.of(window, *self._ordinary.of(self._columns, *window[-1, self._clock]))
        groups = [found for group in self._groups if (found := [k for k in group if bar.deviation[k] > 0.0])]
        scored = self._scorer.predict(bar.replaced(self._kept(groups)))
        sizes = self._contributions(bar, groups, scored)
        order = [k for k in np.argsort(-sizes, kind="stable").tolist() if sizes[k] > 0.0]
        contributions = tuple(
            Contribution(
                name=self._columns[k],
                value=float(bar.values[k]),
                expected=float(bar.expected[k]),
                contribution=math.copysign(float(sizes[k]), -1.0 if bar.values[k] < bar.expected[k] else 1.0),
            )
            for k in order
        )
        changes = self._changes(bar, groups, scored)
        return AlertExplanation(contributions, changes, self._words(bar, order, sizes, changes))

    def _words(self, bar: "_Bar", order: Sequence[int], sizes: Floats, changes: tuple[Change, ...] | None) -> str:
        """Return the largest contributions with their expected values, and the changes, in words."""
        total = float(sizes.sum())
        named = [self._reading(k, bar) for k in order[:TOP_FEATURES] if sizes[k] >= _NAMED_SHARE * total]
        largest = [
            f"{in_words(self._columns[k], bar.values[k])} (expected {bar.expected[k]:.2g})"
            for k in dict.fromkeys(named)
        ]
        parts = [", ".join(largest)] if largest else []
        if changes is not None and len(changes) <= TOP_FEATURES:
            instead = " and ".join(in_words(change.name, change.instead) for change in changes)
            parts.append(f"would not alert with {instead}")
        return "; ".join(parts)

    def _reading(self, column: int, bar: "_Bar") -> int:
        """Return the column that states the same in a unit that a reader knows, else the column itself."""
        name = READABLE.get(self._columns[column])
        place = column if name not in self._columns else self._columns.index(name)
        return place if bar.deviation[place] > 0.0 else column

    def _contributions(self, bar: "_Bar", groups: Sequence[Sequence[int]], scored: BundlePredictions) -> Floats:
        """Return the size of each feature's contribution, float64[F]; they add up to the score.

        Scores per column are divided among the columns by ``shapley_values_of_largest``. Those of other detectors are
        divided among the groups by the Shapley values of all subsets, without groups that lower the score, and within
        a group by the deviations.
        """
        score = float(scored.anomaly_score[-1])
        by_column = self._scorer.column_scores(bar.window)
        known = np.where(np.isfinite(bar.expected), by_column, 0.0)
        if known.max() >= score:
            return scaled_to(shapley_values_of_largest(known), score)
        parts = np.maximum(shapley_values(_worth(scored)), 0.0) if groups else np.zeros(0)
        if not parts.any():
            return scaled_to(bar.deviation, score)
        sizes = np.zeros(len(self._columns))
        for group, part in zip(groups, parts.tolist(), strict=True):
            sizes[group] = scaled_to(bar.deviation[group], part)
        return scaled_to(sizes, score)

    def _changes(
        self, bar: "_Bar", groups: Sequence[Sequence[int]], scored: BundlePredictions
    ) -> tuple[Change, ...] | None:
        """Return the smallest change found: the fewest groups, of them the fewest features, and the shortest way.

        The last models' run has scored exactly the changed bar, below the threshold.
        """
        clear = np.flatnonzero(scored.anomaly_score < scored.threshold)
        if not len(clear):
            return None
        replaced = ~coalitions(len(groups))[clear]
        features_replaced = replaced @ np.array([len(group) for group in groups], dtype=np.int64)
        fewest = replaced[np.lexsort((features_replaced, replaced.sum(axis=1)))[0]]
        features = [k for player in np.flatnonzero(fewest).tolist() for k in groups[player]]
        features.sort(key=lambda k: (-bar.deviation[k], k))
        shortest = self._fewest(bar, features)
        instead = self._shortest_way(bar, shortest)
        return tuple(Change(self._columns[k], float(bar.values[k]), float(instead[k])) for k in shortest)

    def _fewest(self, bar: "_Bar", features: list[int]) -> list[int]:
        """Return the fewest of some features whose ordinary values prevent the alert; those of all do.

        All subsets of the first features are tried, each with all of the others.
        """
        tried, rest = features[:_TRIED], features[_TRIED:]
        kept = self._kept([[k] for k in tried])
        kept[:, rest] = False
        scored = self._scorer.predict(bar.replaced(kept))
        replaced = ~coalitions(len(tried))[scored.anomaly_score < scored.threshold]
        deviations = np.where(replaced, bar.deviation[tried], 0.0).sum(axis=1)
        fewest = replaced[np.lexsort((-deviations, replaced.sum(axis=1)))[0]]
        return [tried[player] for player in np.flatnonzero(fewest).tolist()] + rest

    def _kept(self, groups: Sequence[Sequence[int]]) -> npt.NDArray[np.bool_]:
        """Return which columns each subset of groups keeps, bool[2^groups, F], in the order of ``coalitions``."""
        subsets = coalitions(len(groups))
        kept = np.ones((len(subsets), len(self._columns)), dtype=np.bool_)
        for player, group in enumerate(groups):
            for column in group:
                kept[:, column] = subsets[:, player]
        return kept

    def _shortest_way(self, bar: "_Bar", features: list[int]) -> Floats:
        """Return the values of the bar, float64[F], after the fewest steps towards the ordinary values that suffice."""
        parts = np.arange(1, STEPS + 1)[:, np.newaxis] / STEPS
        rows = np.repeat(bar.values[np.newaxis, :], STEPS, axis=0)
        value, expected = bar.values[features], bar.expected[features]
        rows[:, features] = np.where(parts < 1.0, value + parts * (expected - value), expected)
        scored = self._scorer.predict(bar.windows(rows))
        return rows[int(np.argmax(scored.anomaly_score < scored.threshold))]


@dataclass(frozen=True, slots=True, eq=False)
class _Bar:
    """A bar beside its ordinary values; ``deviation`` is |value − expected| in spreads, 0 where one is missing."""

    window: Floats
    values: Floats
    expected: Floats
    deviation: Floats

    @classmethod
    def of(cls, window: Floats, expected: Floats, spread: Floats) -> "_Bar":
        values = window[-1]
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = np.abs(values - expected) / spread
        return cls(window, values, expected, np.where(np.isfinite(deviation), deviation, 0.0))

    def replaced(self, kept: npt.NDArray[np.bool_]) -> Floats:
        """Return windows, float64[n, length, F], with the ordinary values where ``kept``, bool[n, F], is False."""
        return self.windows(np.where(kept, self.values, self.expected))

    def windows(self, rows: Floats) -> Floats:
        """Return windows, float64[n, length, F], with other last rows, float64[n, F]."""
        windows = np.repeat(self.window[np.newaxis], len(rows), axis=0)
        windows[:, -1, :] = rows
        return windows


def _worth(scored: BundlePredictions) -> Floats:
    """Return the result of each subset: the log odds of an anomaly if a classifier decides, else the score."""
    deciding = int(np.argmax(scored.detector_scores[-1]))
    if scored.detectors[deciding] != "classifier" or scored.labels[0] != NORMAL or len(scored.labels) < 2:
        return scored.detector_scores[:, deciding]
    ordinary = np.clip(scored.probabilities[:, 0], _SMALLEST_PROBABILITY, 1.0 - _SMALLEST_PROBABILITY)
    return np.log1p(-ordinary) - np.log(ordinary)


def _entries(part: Contribution | Change) -> Mapping[str, Any]:
    return {name: getattr(part, name) for name in part.__slots__}
