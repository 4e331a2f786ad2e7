"""P4: features and all models for one message of each of ten symbols, compared with torch and XGBoost."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from benchmarks.harness import Comparison, Goal, Parity, prove, timed
from benchmarks.indicators import Floats, market
from benchmarks.models import (
    ProofModels,
    anomaly_scores,
    market_features,
    model_indices,
    native_network,
    proof_models,
)
from surveillance_pipelines.clock import DAY_US, MICROSECONDS
from surveillance_pipelines.features.state import FeatureState
from surveillance_pipelines.models.arrays import as_float32
from surveillance_pipelines.models.ensemble import Ensemble

SYMBOLS: Final = 10
HISTORY: Final = 600
DAY: Final = 20_000 * DAY_US
PER_ROUND: Final = 200
TOLERANCE: Final = 1e-5
"""Accepted difference of a score in 0..1, due to the order of float32 sums, as in training/export.py."""
_ATTEMPTS: Final = (
    (
        "attempt 1, kept: names of model inputs asked once for each session, numpy's clip, nan_to_num, column_stack "
        "and take_along_axis replaced by what they do, bits unchanged; windows of the kernel in lanes (see P6)"
    ),
    (
        "attempt 2, kept: the direction model reads the inputs that the others have, instead of picking them again "
        "from an array that ONNX Runtime has to copy; numpy's methods instead of its functions; 0.297 to 0.273 ms"
    ),
    (
        "attempt 3, kept: tails, rules, calibrations, scaling and largest contributions compiled "
        "(models/score_kernel.py), bits unchanged"
    ),
    (
        "where it goes, in ms: classifier 0.09 to 0.12 (740 trees), the two other models 0.03, features 0.025, the "
        "rest numpy on arrays of ten rows, a few µs a call"
    ),
)


class Market:
    """Ten live symbols with full windows, and the bar in progress of each."""

    def __init__(self) -> None:
        bars = market(SYMBOLS, HISTORY + 1)
        self._states = [FeatureState() for _ in bars]
        self._open = [rows[HISTORY] for rows in bars]
        for state, rows in zip(self._states, bars, strict=True):
            for i in range(HISTORY):
                state.advance(DAY + i * MICROSECONDS, rows[i])

    def features(self) -> Floats:
        """Return the features of the bars in progress, f8[10, 48], for one message of each symbol."""
        start = DAY + HISTORY * MICROSECONDS
        return np.stack([state.peek(start, bar) for state, bar in zip(self._states, self._open, strict=True)])


def native(models: ProofModels) -> Callable[[Floats], tuple[Floats, Floats]]:
    """Return a scorer with torch (one thread, inference mode) and XGBoost's ``predict_proba``."""
    from xgboost import XGBClassifier

    _, reconstructed = native_network(models)
    classifier, direction = XGBClassifier(n_jobs=1), XGBClassifier(n_jobs=1)
    classifier.load_model(models.classifier)
    direction.load_model(models.direction)
    columns = model_indices(models.bundle)

    def score(features: Floats) -> tuple[Floats, Floats]:
        scores = anomaly_scores(models.bundle, features, reconstructed, classifier.predict_proba)
        return scores, direction.predict_proba(as_float32(features[:, columns]))

    return score


def main() -> None:
    models, live = proof_models(), Market()
    scorer, anchor = Ensemble(models.bundle), native(models)
    scorer.warm_up()

    def parity() -> Parity:
        features = np.concatenate([market_features(), live.features()])
        scores, (theirs, directions) = scorer.predict(features), anchor(features)
        difference = float(np.abs(scores.anomaly_score - theirs).max())
        direction = float(np.abs(scores.direction_probabilities - directions).max())
        return Parity(
            passed=max(difference, direction) <= TOLERANCE,
            statement=f"largest difference of an anomaly score {difference:.1e}, of a direction's probability "
            f"{direction:.1e}, over {len(features):,} bars",
        )

    def once() -> None:
        scorer.predict(live.features())

    prove(
        Comparison(
            name="p4_torch_xgboost",
            work="Features of 10 symbols' bars in progress, then autoencoder, classifier and direction model on them",
            ours="FeatureState.peek, Ensemble.score (ONNX Runtime, one thread; also names kinds and explains)",
            anchor="the same features, torch eager in inference mode (1 thread), XGBClassifier.predict_proba",
            distributions=("torch", "xgboost"),
            unit="s",
            goal=Goal(ratio=3.0, limits={"p99_ms": 5.0}),
            notes=(_sizes(models), *_ATTEMPTS),
        ),
        parity=parity,
        ours=timed(once, PER_ROUND),
        anchor=timed(lambda: anchor(live.features()), PER_ROUND),
        rounds=11,
        figures=lambda: _percentiles(once),
    )


def _percentiles(work: Callable[[], object], calls: int = 3_000) -> Mapping[str, float]:
    arm = timed(work)
    costs = np.array([arm() for _ in range(calls)]) * 1e3
    return {f"p{percent}_ms": float(np.percentile(costs, percent)) for percent in (50, 99)}


def _sizes(models: ProofModels) -> str:
    members = models.bundle.manifest["training"]["members"]
    rounds = {name: members[name]["rounds"] for name in ("classifier", "direction")}
    return (
        f"models of the default training: {rounds['classifier']} rounds of 10 classes at depth 6, "
        f"{rounds['direction']} rounds of 3 classes at depth 4, autoencoder 42-32-8-32-42; the direction model speaks "
        "although no model of a random market passes its gate"
    )


if __name__ == "__main__":
    main()
