"""Fusion of the members' scores to one score and one kind."""

from collections.abc import Sequence
from functools import reduce
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.predictions import AnomalyKinds
from surveillance_pipelines.models.calibration import THRESHOLD

Floats = npt.NDArray[np.float64]

LARGEST: Final = "largest"
"""Rule: the fused score is the largest calibrated score. The classifier names the kind if its score reaches the
threshold; otherwise a bar for which another detector's score does is ``unclassified``."""


class Fused(NamedTuple):
    """Fused score, float64[n]; position of the kind in ``(*labels, "unclassified")``, int64[n]; its confidence."""

    score: Floats
    kind_codes: npt.NDArray[np.int64]
    confidence: Floats


def fuse_largest(kinds: AnomalyKinds, classifier_score: Floats, other_scores: Sequence[Floats]) -> Fused:
    """Return the fused score and kind by the rule ``LARGEST``.

    Args:
        kinds: probabilities of the classifying member.
        classifier_score: calibrated score of the classifying member, float64[n].
        other_scores: the calibrated scores of the other detectors.
    """
    other = reduce(np.maximum, other_scores) if other_scores else np.zeros(len(classifier_score))
    codes, confidence = name_kinds(kinds, classifier_score, other)
    return Fused(np.maximum(other, classifier_score), codes, confidence)


def name_kinds(
    kinds: AnomalyKinds, classifier_score: Floats, other_score: Floats
) -> tuple[npt.NDArray[np.int64], Floats]:
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
