"""Explanations of scores for analysts, as JSON in output rows.

Bundles of format 1 and the warm-up rules use the texts and keys of ``wording`` v1. They must not change: stored rows
contain them, and a replay compares them. Bundles of format 2 use wording v2.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from surveillance_pipelines.models.bundle_predictions import TOP_FEATURES, BundlePredictions
from surveillance_pipelines.models.contract import FeatureWindow, ModelFailedError


def explanation(predictions: BundlePredictions, i: int) -> dict[str, Any]:
    """Return the explanation of bar ``i``, JSON-safe: detectors, likeliest kinds and largest contributions."""
    return _explanation_v1(predictions, i) if predictions.wording == "v1" else _explanation(predictions, i)


def alert_explanation(predictions: BundlePredictions, i: int, window: FeatureWindow) -> dict[str, Any]:
    """Return the explanation of bar ``i``; of an alert, also contributions and what would have prevented it.

    Args:
        predictions: predictions for a batch of bars.
        i: the bar's row in the batch.
        window: float64[length, F], the bar's window.
    """
    explained = explanation(predictions, i)
    if predictions.explainer is None or not predictions.is_alert(i):
        return explained
    try:
        found = predictions.explainer.explain(window)
    except ModelFailedError as error:  # the alert counts, whether or not a model can explain it
        return explained | {"explanation_incomplete": str(error)}
    words = found.pop("words")
    heading = f"{predictions.kind(i)}, score {predictions.anomaly_score[i]:.2f}"
    return explained | {"summary": f"{heading}: {words}" if words else heading} | found


def exclusions(predictions: BundlePredictions) -> dict[str, Any]:
    """Return the part of an explanation that names excluded members; empty if there are none."""
    key = "models_out" if predictions.wording == "v1" else "excluded_models"
    return {key: list(predictions.excluded)} if predictions.excluded else {}


def _explanation(predictions: BundlePredictions, i: int) -> dict[str, Any]:
    scores = predictions.detector_scores[i].tolist()
    return exclusions(predictions) | {
        "summary": _summary(predictions, i),
        "detectors": {name: _finite(score) for name, score in zip(predictions.detectors, scores, strict=True)},
        "statistics": {name: _finite(values[i]) for name, values in predictions.statistics.items()},
        "kinds": _kinds(predictions, i),
        **_refused_kind(predictions, i),
        "features": _features(predictions, i),
    }


def _refused_kind(predictions: BundlePredictions, i: int) -> dict[str, str]:
    """Return the likeliest kind, if the bar shows too little evidence for it."""
    code = -1 if predictions.refused_kinds is None else int(predictions.refused_kinds[i])
    return {} if code < 0 else {"kind_without_evidence": predictions.kind_names[code]}


def _summary(predictions: BundlePredictions, i: int) -> str:
    largest = [f"{predictions.feature_names[k]} {value:.3g}" for k, value, share in _top(predictions, i) if share > 0]
    contributions = f"; largest contributions: {', '.join(largest)}" if largest else ""
    return f"{predictions.kind(i)}, score {predictions.anomaly_score[i]:.2f}{contributions}"


def _explanation_v1(predictions: BundlePredictions, i: int) -> dict[str, Any]:
    rules = "classifier" if "classifier" in predictions.detectors else "rules"
    return exclusions(predictions) | {
        "summary": _summary_v1(predictions, i),
        "autoencoder_score": _finite(predictions.detector_score("autoencoder")[i]),
        "classifier_score": _finite(predictions.detector_score(rules)[i]),
        "reconstruction_error": _finite(predictions.statistic("reconstruction_error")[i]),
        "kinds": _kinds(predictions, i),
        "features": _features(predictions, i),
    }


def _summary_v1(predictions: BundlePredictions, i: int) -> str:
    names = predictions.feature_names
    strangest = ", ".join(f"{names[k]} = {value:.3g}" for k, value, share in _top(predictions, i) if share > 0)
    return f"{predictions.kind(i)} at confidence {predictions.confidence[i]:.2f}; strangest: {strangest or 'nothing'}"


def _kinds(predictions: BundlePredictions, i: int) -> dict[str, float | None]:
    likeliest = np.argsort(-predictions.probabilities[i], kind="stable")[:TOP_FEATURES].tolist()
    probabilities = predictions.probabilities[i].tolist()
    return {predictions.labels[k]: _finite(probabilities[k]) for k in likeliest}


def _features(predictions: BundlePredictions, i: int) -> list[dict[str, Any]]:
    return [
        {"name": predictions.feature_names[k], "value": _finite(value), "share": _finite(share)}
        for k, value, share in _top(predictions, i)
    ]


def _top(predictions: BundlePredictions, i: int) -> Sequence[tuple[int, float, float]]:
    columns = (predictions.top_features, predictions.top_values, predictions.top_shares)
    return list(zip(*(column[i].tolist() for column in columns), strict=True))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
