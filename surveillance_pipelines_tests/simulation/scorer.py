"""A predictor of a few lines: fast, a pure function of the features, and with alerts on many bars.

It reads a symbol's own returns only. A peer's return depends on which group the queue hands out first, so two runs over
equal inputs may differ in it, and their alerts must be comparable all the same.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.contracts.outputs import UNCLASSIFIED
from surveillance_pipelines.contracts.predictions import NORMAL
from surveillance_pipelines.features.views import CORE_V1
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.models.calibration import THRESHOLD

LABELS: Final = (NORMAL, "price_gap", "volatility_burst")
BUNDLES: Final = ("simulated", "simulated, less easily alarmed")
"""Hashes of the two bundles that a schedule may swap between."""
_RETURN: Final = CORE_V1.columns.index("log_return")
_GAP: Final = CORE_V1.columns.index("gap")
_LIMIT: Final = 0.004
"""Of an absolute log return: about one bar in three of the simulated market is beyond it."""


class TinyPredictor:
    """Implements ``Predictor``."""

    feature_view: str = CORE_V1.name
    window_length: int = 1
    model_ids: tuple[str, ...] = ()
    training_domain: None = None
    warmup: bool = False
    horizon_minutes: int = 15

    def __init__(self, bundle_hash: str = BUNDLES[0]) -> None:
        self.bundle_hash: Final = bundle_hash
        self._limit: Final = _LIMIT * (1 + BUNDLES.index(bundle_hash))

    def warm_up(self) -> None:
        """Do nothing."""

    def predict(self, window: npt.NDArray[np.float64]) -> BundlePredictions:
        """Return predictions for float64[n, F] in the columns of ``core_v1``; a missing return counts as none."""
        features = window
        returns = np.where(np.isnan(features[:, _RETURN]), 0.0, features[:, _RETURN])
        gaps = np.where(np.isnan(features[:, _GAP]), 0.0, features[:, _GAP])
        sizes = np.abs(np.stack([gaps, returns]))
        best = np.argmax(sizes, axis=0)
        strength = sizes[best, np.arange(len(best))] / self._limit
        score = strength / (1.0 + strength)
        odd = score >= THRESHOLD
        up, rows = returns > 0.0, len(score)
        return BundlePredictions(
            anomaly_score=score,
            threshold=THRESHOLD,
            kind_codes=np.where(odd, 1 + best, 0),
            kind_names=(*LABELS, UNCLASSIFIED),
            confidence=np.where(odd, score, 1.0 - score),
            detectors=("tiny",),
            detector_scores=score[:, None],
            statistics={},
            labels=LABELS,
            probabilities=np.full((rows, len(LABELS)), 1.0 / len(LABELS)),
            feature_names=CORE_V1.columns,
            top_features=np.zeros((rows, 3), dtype=np.int64),
            top_shares=np.zeros((rows, 3)),
            top_values=np.zeros((rows, 3)),
            direction_probabilities=np.where(up[:, None], (0.2, 0.3, 0.5), (0.25, 0.4, 0.35)),
            direction_ready=True,
        )
