"""Batch scoring of stored features: produces the rows, with the ids, that the live lane writes for closed bars."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.outputs import Anomaly, Incident, Signal
from surveillance_pipelines.contracts.predictions import DIRECTIONS
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.engine.incidents import gap_of, incidents_of
from surveillance_pipelines.engine.scoring_rows import (
    Candidate,
    RowConfig,
    anomaly_kind,
    anomaly_row,
    input_hashes,
    score_ids,
    signal_gap,
    signal_row,
)
from surveillance_pipelines.features.views import VIEWS
from surveillance_pipelines.features.windows import windows_of
from surveillance_pipelines.models.bundle_predictions import BundlePredictions
from surveillance_pipelines.models.ensemble import Predictor
from surveillance_pipelines.strategies.pacing import SignalGate

SCORES_SCHEMA: Final = pl.Schema(
    {
        "date": pl.Date,  # partition: UTC date of bar_start
        "id": pl.String,
        "symbol": pl.String,
        "timeframe": pl.String,
        "bar_start": UTC_MICROSECONDS,
        "revision": pl.Int32,
        "source": pl.String,
        "event_time": UTC_MICROSECONDS,
        "knowledge_time": UTC_MICROSECONDS,
        "source_message_id": pl.String,
        "price": pl.Float64,
        "volume": pl.Float64,
        "anomaly_score": pl.Float64,  # 0..1
        "threshold": pl.Float64,
        "is_anomaly": pl.Boolean,
        "kind": pl.String,
        "confidence": pl.Float64,
        "reconstruction_error": pl.Float64,  # null in warm-up
        "sell_probability": pl.Float64,
        "hold_probability": pl.Float64,
        "buy_probability": pl.Float64,
        "horizon_minutes": pl.Int32,
        "input_hash": pl.String,
        "feature_view": pl.String,
        "bundle_hash": pl.String,
        "code_version": pl.String,
        "config_hash": pl.String,
        "runtime_hash": pl.String,
        "warmup": pl.Boolean,
        "run_id": pl.String,
    }
)
"""Columns of the lake table ``scores``: one row per scored bar, anomalous or not."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


class DayScores(NamedTuple):
    """The results of scoring a frame of features."""

    anomalies: list[Anomaly]
    incidents: list[Incident]
    signals: list[Signal]
    scores: pl.DataFrame
    model_ids: tuple[str, ...] = ()


def score_day(
    features: pl.DataFrame,
    predictor: Predictor,
    config: RowConfig,
    *,
    earlier: pl.DataFrame | None = None,
    last_signals: Mapping[str, int] | None = None,
    sessions: SessionTable | None = None,
) -> DayScores:
    """Score the revision-0 bars of a frame of features, of one day or several.

    Args:
        features: ``feature_schema(view)`` of the models' view, sorted by symbol and bar start.
        predictor: a bundle's models or the warm-up rules.
        config: fields that all rows share (``row_config``).
        earlier: rows of the same schema before the frame, for models that read windows: for every symbol the last
            ``window_length`` − 1, or all if there are fewer.
        last_signals: symbol → bar start (microseconds since the epoch) of its last signal before the frame, so that
            the cooldown continues across days.
        sessions: the sessions with which the features were computed, to set ``fallback_used`` for bars that they do
            not cover; None leaves it unset.

    Returns:
        Confirmed anomalies and signals in the order of the frame, the incidents of the anomalies, and a frame of
        ``SCORES_SCHEMA``.
    """
    final = features.filter(pl.col("revision") == 0).with_columns(pl.col("volume").fill_null(0.0))
    if final.is_empty():
        return DayScores([], [], [], SCORES_SCHEMA.to_frame())
    values = final.select(VIEWS[predictor.feature_view].columns).to_numpy().astype(np.float64, order="C")
    windows = _windows(final, values, earlier, predictor) if predictor.window_length > 1 else values
    scores = predictor.predict(windows)
    anomalous = np.flatnonzero(scores.is_anomaly)
    signalled = _signals_after_cooldown(final, scores, signal_gap(config, scores), last_signals or {})
    bars = _candidates(final, windows, np.union1d(anomalous, signalled), sessions)
    anomalies = [
        anomaly_row(config, bars[i], scores, i, kind=kind, status="confirmed")
        for i in anomalous.tolist()
        if (kind := anomaly_kind(scores, i)) is not None
    ]
    signals = [signal_row(config, bars[i], scores, i) for i in signalled.tolist()]
    incidents = incidents_of(anomalies, gap_of(config.incident_gap_minutes))
    frame = _scores_frame(final, windows, scores, config)
    return DayScores(anomalies, incidents, signals, frame, config.model_ids)


def _windows(bars: pl.DataFrame, values: Floats, earlier: pl.DataFrame | None, predictor: Predictor) -> Floats:
    """Return the windows that end with each bar, float64[n, length, F]; NaN for bars before a symbol's first."""
    length, columns = predictor.window_length, VIEWS[predictor.feature_view].columns
    keys = bars.select("symbol", "bar_start").with_columns(row=pl.int_range(pl.len()))
    before = bars.clear() if earlier is None else earlier.select(bars.columns)
    known = pl.concat([before.select("symbol", "bar_start").with_columns(row=pl.lit(-1, pl.Int64)), keys])
    rows = np.concatenate([before.select(columns).to_numpy().astype(np.float64), values])
    series = known.with_columns(place=pl.int_range(pl.len())).sort("symbol", "bar_start").with_row_index("at")
    first = series.select(pl.col("at").first().over("symbol").cast(pl.Int64)).to_series().to_numpy()
    wanted = np.flatnonzero(series["row"].to_numpy() >= 0)
    windows = windows_of(rows[series["place"].to_numpy()], wanted, first[wanted], length)
    return windows[np.argsort(series["row"].to_numpy()[wanted])]


def _signals_after_cooldown(
    bars: pl.DataFrame, scores: BundlePredictions, gap: int, last_signals: Mapping[str, int]
) -> Indices:
    """Return the bars with an action other than HOLD, outside the cooldown of their symbol."""
    calls = np.flatnonzero(np.argmax(scores.direction_probabilities, axis=1) != DIRECTIONS.index("HOLD"))
    gates = {symbol: SignalGate(start) for symbol, start in last_signals.items()}
    called = bars.select("symbol", pl.col("bar_start").dt.timestamp("us"))[calls]
    passed = [gates.setdefault(symbol, SignalGate()).passes(start, gap) for symbol, start in called.iter_rows()]
    return calls[np.array(passed, dtype=np.bool_)]


def _candidates(
    bars: pl.DataFrame, windows: Floats, wanted: Indices, sessions: SessionTable | None
) -> dict[int, Candidate]:
    """Return the bars with an anomaly or a signal, by row number."""
    instants = [pl.col(name).dt.timestamp("us") for name in ("bar_start", "event_time", "knowledge_time")]
    rows = bars.select("symbol", *instants, "source", "source_message_id", "close", "volume")[wanted].iter_rows()
    return {
        i: Candidate(
            symbol=symbol,
            bar_start=bar_start,
            bar_status="final",
            event_time=event_time,
            knowledge_time=knowledge_time,
            source=source,
            source_message_id=message,
            price=price,
            volume=volume,
            features=windows[i] if windows.ndim == 2 else windows[i, -1],
            earlier=() if windows.ndim == 2 else tuple(windows[i, :-1]),
            calendar=None if sessions is None else sessions.for_symbol(symbol).calendar,
            fallback_used=sessions is not None and not sessions.for_symbol(symbol).covers(bar_start),
            correlation_id=message,
        )
        for i, (symbol, bar_start, event_time, knowledge_time, source, message, price, volume) in zip(
            wanted.tolist(), rows, strict=True
        )
    }


def _scores_frame(bars: pl.DataFrame, windows: Floats, scores: BundlePredictions, config: RowConfig) -> pl.DataFrame:
    ids = score_ids(config, bars["symbol"].to_list(), bars["bar_start"].dt.timestamp("us").to_list())
    sell, hold, buy = scores.direction_probabilities.T
    frame = bars.select(
        "date", "symbol", "timeframe", "bar_start", "revision", "source", "event_time", "knowledge_time",
        "source_message_id", "volume", price="close",
    ).with_columns(
        id=pl.Series(ids),
        anomaly_score=pl.Series(scores.anomaly_score),
        threshold=pl.lit(float(scores.threshold)),
        is_anomaly=pl.Series(scores.is_anomaly),
        kind=pl.Series(scores.kinds),
        confidence=pl.Series(scores.confidence),
        reconstruction_error=pl.Series(scores.statistic("reconstruction_error")).fill_nan(None),
        sell_probability=pl.Series(sell),
        hold_probability=pl.Series(hold),
        buy_probability=pl.Series(buy),
        horizon_minutes=pl.lit(config.horizon_minutes),
        input_hash=pl.Series(input_hashes(windows)),
        feature_view=pl.lit(config.feature_view),
        bundle_hash=pl.lit(config.bundle_hash),
        code_version=pl.lit(config.code_version),
        config_hash=pl.lit(config.config_hash),
        runtime_hash=pl.lit(config.runtime_hash),
        warmup=pl.lit(config.warmup),
        run_id=pl.lit(config.run_id, pl.String),
    )  # fmt: skip
    return frame.select(SCORES_SCHEMA.names()).cast(SCORES_SCHEMA)
