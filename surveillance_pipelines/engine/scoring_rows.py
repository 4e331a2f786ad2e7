"""Output rows from feature vectors and predictions, for the live engine and for batch scoring.

Rows hold only values known when they are computed; the shell sets ``t_computed`` and ``t_committed``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.market import BarStatus, Source
from surveillance_pipelines.contracts.outputs import (
    DEFAULT_STRATEGY,
    Action,
    AlertStatus,
    Anomaly,
    RowType,
    Score,
    Signal,
    alert_id,
    final_row_ids,
    row_id,
)
from surveillance_pipelines.contracts.predictions import DIRECTIONS
from surveillance_pipelines.engine.code_version import scoring_code_version
from surveillance_pipelines.hashing import sha256_bytes, sha256_rows
from surveillance_pipelines.market.asset_classes import asset_class_of
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.models.explanations import alert_explanation, exclusions, explanation
from surveillance_pipelines.models.runtime import runtime_hash
from surveillance_pipelines.models.training_domain import TrainingDomain
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.strategies.pacing import SignalGate, SignalPace

OUTSIDE_TRAINING: Final = "outside_training"
"""Key of an explanation: property of the instrument (symbol, calendar, asset_class) → its value, which no training bar
had. Bundles of earlier releases do not record these properties, so the explanations of their rows never have it."""

SIGNAL_THRESHOLD: Final = 1.0 / len(DIRECTIONS)
"""A signal names the most probable of three actions, so its probability is at least this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowConfig:
    """Fields that all rows of one run share: tenant and strategy, code and models."""

    tenant: str
    config_hash: str
    code_version: str
    feature_view: str
    bundle_hash: str
    runtime_hash: str
    warmup: bool
    horizon_minutes: int
    pace: SignalPace
    run_id: str | None = None
    strategy: str = DEFAULT_STRATEGY
    timeframe: str = "1m"
    model_ids: tuple[str, ...] = ()
    training_domain: TrainingDomain | None = None
    incident_gap_minutes: float | None = None  # None for the default


def row_config(settings: Settings, predictor: Predictor, *, run_id: str | None = None) -> RowConfig:
    """Return the shared fields of the rows of a run with these settings and models."""
    pace = SignalPace(
        cooldown=round(settings.signal_cooldown_seconds * MICROSECONDS),
        warmup=round(settings.warmup_signal_frequency * MICROSECONDS),
    )
    config = current_row_config(predictor, tenant=settings.tenant, config_hash=settings.config_hash, pace=pace)
    return replace(config, run_id=run_id, incident_gap_minutes=settings.incident_gap_minutes)


def current_row_config(
    predictor: Predictor, *, tenant: str, config_hash: str, pace: SignalPace, strategy: str = DEFAULT_STRATEGY
) -> RowConfig:
    """Return the shared fields of rows that a predictor makes with this process's code and runtime."""
    return RowConfig(
        tenant=tenant,
        config_hash=config_hash,
        code_version=scoring_code_version(),
        feature_view=predictor.feature_view,
        bundle_hash=predictor.bundle_hash,
        runtime_hash=runtime_hash(),
        warmup=predictor.warmup,
        horizon_minutes=predictor.horizon_minutes,
        pace=pace,
        strategy=strategy,
        model_ids=predictor.model_ids,
        training_domain=predictor.training_domain,
    )


def with_predictor(config: RowConfig, predictor: Predictor) -> RowConfig:
    """Return the same shared fields for rows scored by other models."""
    return replace(
        config,
        feature_view=predictor.feature_view,
        bundle_hash=predictor.bundle_hash,
        warmup=predictor.warmup,
        horizon_minutes=predictor.horizon_minutes,
        model_ids=predictor.model_ids,
        training_domain=predictor.training_domain,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One bar with its feature vector, about to be scored.

    Attributes:
        features: float64[F], the columns of the feature view.
        calendar: the symbol's trading calendar; None if it is not known.
        earlier: feature rows of the preceding bars, oldest first, for models that read windows; empty otherwise.
        fallback_used: whether the features use a fallback, because the trading session is not on record.
        trigger_message_id: the message that caused a provisional score; None on a final bar.
        correlation_id: the message or bar that caused the scoring, in every row and log line.
        t_received: when that message was received; None in batch.
        market_return: the peers' return used for a bar in progress; None on a final bar or without peers.
        market_peers: number of peers used for a bar in progress; None on a final bar.
    """

    symbol: str
    bar_start: int
    bar_status: BarStatus
    event_time: int
    knowledge_time: int
    source: Source
    source_message_id: str | None
    price: float
    volume: float
    features: npt.NDArray[np.float64]
    calendar: str | None = None
    earlier: tuple[npt.NDArray[np.float64], ...] = ()
    fallback_used: bool = False
    trigger_message_id: str | None = None
    correlation_id: str | None = None
    t_received: int | None = None
    market_return: float | None = None
    market_peers: int | None = None

    @property
    def window(self) -> npt.NDArray[np.float64]:
        """The feature rows to score, float64[length, F]; the bar itself is the last row."""
        return np.stack([*self.earlier, self.features]) if self.earlier else self.features[np.newaxis, :]


def input_hashes(features: npt.NDArray[np.float64]) -> list[str]:
    """Return ``input_hash`` of every row of float64[n, F], or of every window of float64[n, length, F]."""
    canonical = np.where(np.isnan(features), np.nan, features)
    return sha256_rows(canonical.astype("<f8", copy=False))


def input_hash(features: npt.NDArray[np.float64]) -> str:
    """Return the hash of a feature vector or window; all NaNs hash alike, so the hash survives storage."""
    canonical = np.where(np.isnan(features), np.nan, features)
    return sha256_bytes(np.ascontiguousarray(canonical, dtype="<f8").data)


def anomaly_kind(predictions: BundlePredictions, i: int) -> str | None:
    """Return the anomaly kind of row ``i``, None for a normal bar."""
    return predictions.kind(i) if predictions.is_alert(i) else None


def anomaly_row(
    config: RowConfig, bar: Candidate, predictions: BundlePredictions, i: int, *, kind: str, status: AlertStatus
) -> Anomaly:
    """Return the row that opens, confirms or retracts an alert of a kind."""
    score = _score(predictions, i)
    confidence = _confidence(predictions, i, kind)
    return Anomaly(
        id=_id("anomaly", config, bar, kind),
        **_common(config, bar, predictions),
        score=score,
        threshold=float(predictions.threshold),
        kind=kind,
        confidence=confidence,
        risk_score=score * confidence,
        explanation=_with_domain(config, bar, alert_explanation(predictions, i, bar.window)),
        warmup=config.warmup,
        alert_status=status,
        alert_id=alert_id(
            tenant=config.tenant, strategy=config.strategy, symbol=bar.symbol, timeframe=config.timeframe,
            bar_start=bar.bar_start, kind=kind,
        ),
        price=bar.price,
        volume=bar.volume,
        reconstruction_error=_finite(predictions.statistic("reconstruction_error")[i]),
    )  # fmt: skip


def action_of(predictions: BundlePredictions, i: int) -> Action:
    """Return the most probable action."""
    return cast("Action", DIRECTIONS[int(np.argmax(predictions.direction_probabilities[i]))])


def signal_row(config: RowConfig, bar: Candidate, predictions: BundlePredictions, i: int) -> Signal:
    """Return the signal of a final bar. Its risk is the bar's anomaly score."""
    probabilities = dict(zip(DIRECTIONS, predictions.direction_probabilities[i].tolist(), strict=True))
    action = action_of(predictions, i)
    return Signal(
        id=_id("signal", config, bar, action),
        **_common(config, bar, predictions),
        score=probabilities[action],
        threshold=SIGNAL_THRESHOLD,
        kind=action,
        confidence=probabilities[action],
        risk_score=_score(predictions, i),
        explanation=_with_domain(config, bar, explanation(predictions, i)),
        warmup=_is_warmup_signal(config, predictions),
        action=action,
        price=bar.price,
        buy_probability=probabilities["BUY"],
        hold_probability=probabilities["HOLD"],
        sell_probability=probabilities["SELL"],
        horizon_minutes=config.horizon_minutes,
    )


def paced_signal(
    config: RowConfig, bar: Candidate, predictions: BundlePredictions, i: int, gate: SignalGate
) -> Signal | None:
    """Return the signal of a final bar, None for HOLD or within the symbol's cooldown."""
    if action_of(predictions, i) == "HOLD" or not gate.passes(bar.bar_start, signal_gap(config, predictions)):
        return None
    return signal_row(config, bar, predictions, i)


def signal_gap(config: RowConfig, predictions: BundlePredictions) -> int:
    """Return the minimum distance, in microseconds, of a signal from the one before it."""
    return config.pace.gap(warmup=_is_warmup_signal(config, predictions))


def _is_warmup_signal(config: RowConfig, predictions: BundlePredictions) -> bool:
    return config.warmup or not predictions.direction_ready


def score_row(config: RowConfig, bar: Candidate, predictions: BundlePredictions, i: int) -> Score:
    """Return the score row of a bar, anomalous or not."""
    score, confidence = _score(predictions, i), float(predictions.confidence[i])
    sell, hold, buy = predictions.direction_probabilities[i].tolist()
    is_alert = predictions.is_alert(i)
    return Score(
        id=_id("score", config, bar, "score"),
        **_common(config, bar, predictions),
        score=score,
        threshold=float(predictions.threshold),
        kind=predictions.kind(i),
        confidence=confidence,
        risk_score=score * confidence if is_alert else 0.0,
        explanation=exclusions(predictions),
        warmup=config.warmup,
        price=bar.price,
        volume=bar.volume,
        is_anomaly=is_alert,
        reconstruction_error=_finite(predictions.statistic("reconstruction_error")[i]),
        buy_probability=buy,
        hold_probability=hold,
        sell_probability=sell,
        horizon_minutes=config.horizon_minutes,
        model_ids=config.model_ids,
        excluded_models=predictions.excluded,
    )


def _confidence(predictions: BundlePredictions, i: int, kind: str) -> float:
    """Return the probability of a kind; for a retraction, the bar may have another kind by now."""
    if predictions.kind(i) == kind:
        return float(predictions.confidence[i])
    if kind in predictions.labels:
        return float(predictions.probabilities[i, predictions.labels.index(kind)])
    return 0.0  # "unclassified" has no probability


def score_ids(config: RowConfig, symbols: Sequence[str], bar_starts: Sequence[int]) -> list[str]:
    """Return the ids of the score rows of final bars, in the same order."""
    return final_row_ids(
        "score",
        symbols,
        bar_starts,
        kind="score",
        tenant=config.tenant,
        strategy=config.strategy,
        timeframe=config.timeframe,
        feature_view=config.feature_view,
        bundle_hash=config.bundle_hash,
        config_hash=config.config_hash,
    )


def _id(row_type: RowType, config: RowConfig, bar: Candidate, kind: str) -> str:
    return row_id(
        row_type,
        kind=kind,
        tenant=config.tenant,
        strategy=config.strategy,
        symbol=bar.symbol,
        timeframe=config.timeframe,
        bar_start=bar.bar_start,
        revision=0,
        bar_status=bar.bar_status,
        trigger_message_id=bar.trigger_message_id,
        feature_view=config.feature_view,
        bundle_hash=config.bundle_hash,
        config_hash=config.config_hash,
    )


def _with_domain(config: RowConfig, bar: Candidate, explained: dict[str, Any]) -> dict[str, Any]:
    """Return the explanation of a row with what of the bar is outside the training data of the models."""
    domain = config.training_domain
    if domain is None:
        return explained
    outside = domain.outside(bar.symbol, bar.calendar, asset_class_of(bar.symbol, bar.calendar))
    return explained | {OUTSIDE_TRAINING: outside} if outside else explained


def _common(config: RowConfig, bar: Candidate, predictions: BundlePredictions) -> dict[str, Any]:
    return {
        "event_time": bar.event_time,
        "knowledge_time": bar.knowledge_time,
        "source": bar.source,
        "source_message_id": bar.source_message_id,
        "symbol": bar.symbol,
        "timeframe": config.timeframe,
        "bar_start": bar.bar_start,
        "revision": 0,
        "bar_status": bar.bar_status,
        "input_hash": input_hash(bar.window if bar.earlier else bar.features),
        "feature_view": config.feature_view,
        "bundle_hash": config.bundle_hash,
        "code_version": config.code_version,
        "config_hash": config.config_hash,
        "runtime_hash": config.runtime_hash,
        "fallback_used": bar.fallback_used or bool(predictions.excluded),
        "tenant": config.tenant,
        "strategy": config.strategy,
        "correlation_id": bar.correlation_id,
        "run_id": config.run_id,
        "t_received": bar.t_received,
        "market_return": bar.market_return,
        "market_peers": bar.market_peers,
    }


def _score(predictions: BundlePredictions, i: int) -> float:
    """Return the anomaly score of a bar; a stored NaN would look like an ordinary bar."""
    score = float(predictions.anomaly_score[i])
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"expected an anomaly score from 0 to 1, got {score}")
    return score


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
