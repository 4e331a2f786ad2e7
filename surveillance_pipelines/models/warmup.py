"""Warm-up rules, which serve until a model has passed its gate (MOD-10, INF-11).

Each rule compares features, which are normalised by their usual size, with fixed limits. The rules are deliberately
coarse, for few alerts with simple reasons. Every row they produce is marked ``warmup``.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.outputs import ANOMALY_KINDS, UNCLASSIFIED
from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.arrays import as_window
from surveillance_pipelines.models.bundle_predictions import BundlePredictions, top_contributions
from surveillance_pipelines.models.calibration import THRESHOLD
from surveillance_pipelines.models.contract import FeatureWindow
from surveillance_pipelines.models.momentum import MOMENTUM_HORIZON_MINUTES, momentum_probabilities
from surveillance_pipelines.models.rules import WARMUP_RULES, rule_set
from surveillance_pipelines.models.training_domain import TrainingDomain

Floats = npt.NDArray[np.float64]

WARMUP_BUNDLE: Final = "warmup"
"""Value of ``bundle_hash`` in rows of the warm-up rules."""

LABELS: Final = (NORMAL, *ANOMALY_KINDS)

RULES_DETECTOR: Final = "rules"
"""Name of the rules in ``BundlePredictions.detectors``."""

_KIND_CODES: Final = np.array([LABELS.index(rule.kind) for rule in WARMUP_RULES])


class WarmupRules:
    """Predicts by rules from feature vectors of ``core_v1``."""

    bundle_hash: str = WARMUP_BUNDLE
    feature_view: str = CORE_V1.name
    window_length: int = 1
    model_ids: tuple[str, ...] = ()
    training_domain: TrainingDomain | None = None
    warmup: bool = True
    horizon_minutes: int = MOMENTUM_HORIZON_MINUTES

    def __init__(self, excluded: tuple[str, ...] = ()) -> None:
        """Prepare the rules; ``excluded`` names the members of a bundle that they replace."""
        self._excluded: Final = excluded

    def warm_up(self) -> None:
        """Do nothing: rules need no loading."""

    def predict(self, window: FeatureWindow) -> BundlePredictions:
        """Return the rules' predictions for n bars; the probabilities are rule strengths, not learned.

        Args:
            window: float64[n, length, F] or float64[n, F], the columns of ``core_v1`` in order, NaN for missing
                features; only the last row of a window is used.
        """
        features = as_window(window, len(CORE_V1.columns), 1)[:, -1, :]
        rules = rule_set(WARMUP_RULES, CORE_V1.columns)
        strength = rules.strengths(features)
        points = strength / (1.0 + strength)  # 0.5 at the limits, towards 1 far beyond them
        best = np.argmax(points, axis=1)
        score = points[np.arange(len(points)), best]
        is_anomaly = score >= THRESHOLD
        top, shares, values = top_contributions(rules.evidence(features, best), features)
        return BundlePredictions(
            anomaly_score=score,
            threshold=THRESHOLD,
            kind_codes=np.where(is_anomaly, _KIND_CODES[best], 0),
            kind_names=(*LABELS, UNCLASSIFIED),
            confidence=np.where(is_anomaly, score, 1.0 - score),
            detectors=(RULES_DETECTOR,),
            detector_scores=score[:, np.newaxis],
            statistics={},
            labels=LABELS,
            probabilities=_probabilities(best, score),
            feature_names=CORE_V1.columns,
            top_features=top,
            top_shares=shares,
            top_values=values,
            direction_probabilities=momentum_probabilities(features, CORE_V1.columns),
            direction_ready=False,
            excluded=self._excluded,
            wording="v1",
        )


def _probabilities(best: npt.NDArray[np.intp], score: Floats) -> Floats:
    """Return a distribution over ``LABELS`` with two non-zero entries: the strongest rule's kind, and normal."""
    probabilities = np.zeros((len(score), len(LABELS)))
    probabilities[np.arange(len(score)), _KIND_CODES[best]] = score
    probabilities[:, 0] = 1.0 - score
    return probabilities
