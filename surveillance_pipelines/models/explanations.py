"""Why a bar has its score, for people."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from surveillance_pipelines.models.scoring import TOP_FEATURES, Scores


def explanation(scores: Scores, i: int) -> dict[str, Any]:
    """Return why row ``i`` has its score, JSON-safe: both detectors, the likeliest kinds, the strangest features."""
    likeliest = np.argsort(-scores.probabilities[i], kind="stable")[:TOP_FEATURES].tolist()
    probabilities = scores.probabilities[i].tolist()
    top = _top(scores, i)
    absent = {"models_out": list(scores.models_out)} if scores.models_out else {}
    return absent | {
        "summary": _summary(scores, i, top),
        "autoencoder_score": _finite(scores.autoencoder_score[i]),
        "classifier_score": _finite(scores.classifier_score[i]),
        "reconstruction_error": _finite(scores.reconstruction_error[i]),
        "kinds": {scores.labels[k]: _finite(probabilities[k]) for k in likeliest},
        "features": [
            {"name": scores.feature_names[k], "value": _finite(value), "share": _finite(share)}
            for k, value, share in top
        ],
    }


def _summary(scores: Scores, i: int, top: Sequence[tuple[int, float, float]]) -> str:
    strangest = ", ".join(f"{scores.feature_names[k]} = {value:.3g}" for k, value, share in top if share > 0)
    return f"{scores.kind[i]} at confidence {scores.confidence[i]:.2f}; strangest: {strangest or 'nothing'}"


def _top(scores: Scores, i: int) -> Sequence[tuple[int, float, float]]:
    columns = (scores.top_features, scores.top_values, scores.top_shares)
    return list(zip(*(column[i].tolist() for column in columns), strict=True))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
