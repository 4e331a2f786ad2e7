"""Fusion of the members' scores to one score and one kind."""

from collections.abc import Sequence
from functools import cache, reduce
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.outputs import UNCLASSIFIED
from surveillance_pipelines.contracts.predictions import AnomalyKinds
from surveillance_pipelines.models.calibration import THRESHOLD
from surveillance_pipelines.models.rules import EVIDENCE, FLOORS, NAMING_RULES, Rule, RuleSet, strengths

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

LARGEST: Final = "largest"
"""Rule of bundles before the floors: the fused score is the largest calibrated score. The classifier names the kind if
its score reaches the threshold; otherwise a bar for which another detector's score does is ``unclassified``."""

FLOORED: Final = "largest_with_floors"
"""Rule of new bundles: the fused score is the largest of the calibrated scores and the floors, which no promotion
removes. A kind is named only if the bar shows the evidence that the kind needs; see ``fuse_with_floors``."""

FUSIONS: Final = (LARGEST, FLOORED)
FLOORS_DETECTOR: Final = "floors"
"""Name of the floors in ``BundlePredictions.detectors``."""
NO_KIND: Final = -1

_NOTHING: Final = Rule("", ())
"""The evidence for a kind without an entry in ``EVIDENCE``."""


class Fused(NamedTuple):
    """Fused score, float64[n]; position of the kind in ``(*labels, "unclassified")``, int64[n]; its confidence.

    ``refused`` is the position of the likeliest kind that the bar has not enough evidence for, int64[n]; ``NO_KIND`` if
    there is none.
    """

    score: Floats
    kind_codes: Codes
    confidence: Floats
    refused: Codes


def fuse_largest(kinds: AnomalyKinds, classifier_score: Floats, other_scores: Sequence[Floats]) -> Fused:
    """Return the fused score and kind by the rule ``LARGEST``.

    Args:
        kinds: probabilities of the classifying member.
        classifier_score: calibrated score of the classifying member, float64[n].
        other_scores: the calibrated scores of the other detectors.
    """
    other = reduce(np.maximum, other_scores) if other_scores else np.zeros(len(classifier_score))
    codes, confidence = name_kinds(kinds, classifier_score, other)
    return Fused(np.maximum(other, classifier_score), codes, confidence, np.full(len(codes), NO_KIND))


def fuse_with_floors(
    kinds: AnomalyKinds, classifier_score: Floats, other_scores: Sequence[Floats], *, features: Floats,
    columns: tuple[str, ...],
) -> Fused:  # fmt: skip
    """Return the fused score and kind by the rule ``FLOORED``.

    The kind of an anomalous bar is the classifier's likeliest one for which the bar has ``EVIDENCE``, if its score
    reaches the threshold. Otherwise it is that of the strongest floor or warm-up rule that the bar reaches, else
    ``unclassified``.

    Args:
        kinds: probabilities of the classifying member.
        classifier_score: calibrated score of the classifying member, float64[n].
        other_scores: the calibrated scores of the other detectors and ``floor_scores``.
        features: float64[n, F], the scored bars.
        columns: names of the features.
    """
    score = np.maximum(reduce(np.maximum, other_scores), classifier_score)
    rows = np.flatnonzero(score >= THRESHOLD)
    codes = np.zeros(len(score), dtype=np.int64)
    confidence = kinds.probabilities[:, 0].copy()
    refused = np.full(len(score), NO_KIND)
    if len(rows):
        named, certainty, refused[rows] = _kinds_with_evidence(kinds, classifier_score[rows], rows, features, columns)
        by_rule = _kinds_by_rule(kinds.labels, features[rows], columns)
        codes[rows] = np.where(named > 0, named, by_rule)
        confidence[rows] = np.where(named > 0, certainty, score[rows])
    return Fused(score, codes, confidence, refused)


def floor_scores(features: Floats, columns: tuple[str, ...]) -> Floats:
    """Return the score of the strongest floor, float64[n]: 0.5 at its limits, towards 1 far beyond them."""
    strength = _floors(columns).strengths(features).max(axis=1)
    return strength / (1.0 + strength)


def floor_column_scores(bar: Floats, columns: tuple[str, ...]) -> Floats:
    """Return the score of the strongest floor of each column, float64[F], for one bar, float64[F]."""
    strength = _floors(columns).strengths(bar[np.newaxis])[0]
    found = np.zeros(len(columns))
    for rule, score in zip(FLOORS, (strength / (1.0 + strength)).tolist(), strict=True):
        for name, _ in rule.limits:
            place = columns.index(name)
            found[place] = max(found[place], score)
    return found


@cache
def _floors(columns: tuple[str, ...]) -> RuleSet:
    """Return the floors prepared for columns; ``rule_set`` would hash every rule for each batch."""
    return RuleSet(FLOORS, columns)


def name_kinds(kinds: AnomalyKinds, classifier_score: Floats, other_score: Floats) -> tuple[Codes, Floats]:
    """Return the kind of each bar, as a position in ``(*labels, "unclassified")``, and its confidence."""
    probabilities = kinds.probabilities
    known = classifier_score >= THRESHOLD
    unnamed = ~known & (other_score >= THRESHOLD)
    if probabilities.shape[1] > 1:
        best = np.where(known, 1 + probabilities[:, 1:].argmax(axis=1), 0)
    else:
        best = np.zeros(len(probabilities), dtype=np.int64)
    confidence = np.where(unnamed, other_score, probabilities[np.arange(len(best)), best])
    return np.where(unnamed, len(kinds.labels), best), confidence


def _kinds_with_evidence(
    kinds: AnomalyKinds,
    classifier_score: Floats,
    rows: npt.NDArray[np.intp],
    features: Floats,
    columns: tuple[str, ...],
) -> tuple[Codes, Floats, Codes]:
    """Return the likeliest kind with evidence (0 if none), its probability, and the likeliest kind if it has none."""
    labels, probabilities = kinds.labels, kinds.probabilities[rows, 1:]
    known = classifier_score >= THRESHOLD
    if probabilities.shape[1] == 0 or not known.any():
        return np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows)), np.full(len(rows), NO_KIND)
    needed = tuple(EVIDENCE.get(label, _NOTHING) for label in labels[1:])
    shown = strengths(features[rows], needed, columns) >= 1.0
    likeliest = probabilities.argmax(axis=1)
    supported = np.where(shown, probabilities, -1.0)
    best = supported.argmax(axis=1)
    places = np.arange(len(rows))
    named = np.where(known & shown[places, best], best + 1, 0)
    refused = np.where(known & ~shown[places, likeliest], likeliest + 1, NO_KIND)
    return named, probabilities[places, best], refused


def _kinds_by_rule(labels: Sequence[str], features: Floats, columns: tuple[str, ...]) -> Codes:
    """Return the kind of the strongest floor or rule that the bar reaches, else that of ``unclassified``."""
    rules = (*FLOORS, *NAMING_RULES)
    code_of = {label: code for code, label in enumerate(labels)} | {UNCLASSIFIED: len(labels)}
    codes = np.array([code_of.get(rule.kind, len(labels)) for rule in rules])
    strength = strengths(features, rules, columns)
    best = strength.argmax(axis=1)
    return np.where(strength[np.arange(len(features)), best] >= 1.0, codes[best], len(labels))
