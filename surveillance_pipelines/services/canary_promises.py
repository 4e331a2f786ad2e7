"""The promised detection of canaries: measured once per bundle on its test days, with batch features."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.evaluation.canaries import (
    ALERT_SCHEMA,
    PROMISED_SIZE,
    SCORE_SCHEMA,
    Count,
    Counts,
    KindCounts,
    counts_of,
    events_of,
    judge,
    planted_copies,
)
from surveillance_pipelines.models.calibration import THRESHOLD

if TYPE_CHECKING:
    import psycopg

    from surveillance_pipelines.contracts.outputs import Anomaly
    from surveillance_pipelines.models.ensemble import Predictor
    from surveillance_pipelines.settings import Settings
    from surveillance_pipelines.stores.model_store import QualityMetric

METRICS_MODEL: Final = "canaries"
"""Value of ``model`` of the metrics in ``surveillance.model_metrics``."""

EVENTS: Final = 440
"""Manipulations planted for a promise, 40 per kind: a share of 0.9 then has the lower bound 0.72."""

MOST_COPIES: Final = 30

_PROMISES: Final = """
    SELECT DISTINCT ON (metric_name) metric_name, metric_value, evaluation_dataset_size
    FROM surveillance.model_metrics AS metrics
    JOIN surveillance.model_versions AS versions ON versions.id = metrics.model_version_id
    WHERE versions.bundle_hash = %s AND metrics.model = %s
    ORDER BY metric_name, evaluated_at DESC
"""


class BatchScores(NamedTuple):
    """``SCORES_SCHEMA`` of some days, and their confirmed alerts."""

    scores: pl.DataFrame
    anomalies: "list[Anomaly]"


def batch_scores(
    bars: pl.DataFrame,
    days: Collection[date],
    sessions: SessionTable,
    predictor: "Predictor",
    settings: "Settings",
) -> BatchScores:
    """Return the scores and alerts of days as batch scoring computes them.

    Args:
        bars: bars of those days and, of every symbol, at least 512 before them.
        days: UTC days to score.
        sessions: sessions of the symbols' calendars.
        predictor: the models.
        settings: the platform's settings.
    """
    from surveillance_pipelines.batch.scoring import score_day
    from surveillance_pipelines.engine.scoring_rows import row_config
    from surveillance_pipelines.features.batch import features_of_days
    from surveillance_pipelines.features.views import VIEWS

    view, length, earlier = VIEWS[predictor.feature_view], predictor.window_length, None
    if length > 1:
        known = bars["date"].unique().to_list()
        before = features_of_days(bars, [day for day in known if day < min(days)], sessions, view)
        earlier = before.group_by("symbol", maintain_order=True).tail(length - 1)
    features = features_of_days(bars, days, sessions, view)
    found = score_day(features, predictor, row_config(settings, predictor), earlier=earlier, sessions=sessions)
    return BatchScores(found.scores, found.anomalies)


def measure_promise(
    bars: pl.DataFrame,
    days: Collection[date],
    sessions: SessionTable,
    predictor: "Predictor",
    settings: "Settings",
    *,
    seed: int,
) -> Counts:
    """Plant canaries of full size into copies of days, and return how many of each kind the models detect.

    Args:
        bars: ``BAR_SCHEMA``; bars of the days and of the history before them.
        days: UTC days on which the models were not trained.
        sessions: sessions of the symbols' calendars.
        predictor: the models.
        settings: the platform's settings.
        seed: seed of the canaries.
    """
    chosen = bars.filter(pl.col("date").is_in(list(days)) & (pl.col("revision") == 0))
    history = bars.filter(pl.col("date") < min(days))
    clean = batch_scores(pl.concat([history, chosen]), days, sessions, predictor, settings)
    control = alert_frame(clean.anomalies, 0).select("symbol", "bar_start")
    copies, alerts, events = 0, [ALERT_SCHEMA.to_frame()], list[pl.DataFrame]()
    while copies < MOST_COPIES and sum(part.height for part in events) < EVENTS:
        [(planted, found)] = planted_copies(chosen, sessions, size=PROMISED_SIZE, seeds=[seed + copies])
        if found.is_empty():
            break
        scored = batch_scores(pl.concat([history, planted]), days, sessions, predictor, settings)
        alerts.append(alert_frame(scored.anomalies, copies))
        events.append(found)
        copies += 1
    judged = judge(events_of(events), pl.concat(alerts), SCORE_SCHEMA.to_frame(), control)
    return counts_of(judged, detectors_of(predictor))


def alert_frame(rows: "Sequence[Anomaly]", copy: int) -> pl.DataFrame:
    """Return confirmed alerts as ``ALERT_SCHEMA``."""
    values = [(copy, row.symbol, to_datetime(row.bar_start), row.kind, _alerting(row)) for row in rows]
    return pl.DataFrame(values, schema=ALERT_SCHEMA, orient="row")


def detectors_of(predictor: "Predictor") -> tuple[str, ...]:
    """Return the detectors that alerts of these models name; empty for the warm-up rules and older bundles."""
    from surveillance_pipelines.features.views import VIEWS

    width = len(VIEWS[predictor.feature_view].columns)
    shape = (1, width) if predictor.window_length == 1 else (1, predictor.window_length, width)
    predictions = predictor.predict(np.full(shape, np.nan))
    return () if predictions.wording == "v1" else predictions.detectors


def _alerting(row: "Anomaly") -> list[str]:
    """Return the detectors that reach their threshold, by the row's explanation; empty for explanations of format 1."""
    scores = row.explanation.get("detectors") or {}
    return sorted(name for name, score in scores.items() if score is not None and score >= THRESHOLD)


def promise_metrics(promise: Counts, split: str) -> list["QualityMetric"]:
    """Return a promise as metrics of an evaluation: detected and named per kind, alerted per detector."""
    from surveillance_pipelines.stores.model_store import QualityMetric

    counts = {f"alerted_{name}": count for name, count in promise.detectors.items()}
    for kind, found in promise.kinds.items():
        counts |= {f"detected_{kind}": found.detected, f"named_{kind}": found.named}
    return [
        QualityMetric(name=name, value=count.rate, model=METRICS_MODEL, split=split, dataset_size=count.of)
        for name, count in counts.items()
        if count.of
    ]


def load_promise(connection: "psycopg.Connection[Any]", bundle_hash: str) -> Counts:
    """Return the promise of a registered bundle; empty for the warm-up rules and bundles of earlier releases."""
    rows = connection.execute(_PROMISES, (bundle_hash, METRICS_MODEL)).fetchall()
    counts = {name: Count(round(value * events), events) for name, value, events in rows}
    of = {part: _named(counts, f"{part}_") for part in ("detected", "named", "alerted")}
    kinds = {kind: KindCounts(found, of["named"].get(kind, Count(0, 0))) for kind, found in of["detected"].items()}
    return Counts(kinds, of["alerted"])


def _named(counts: dict[str, Count], prefix: str) -> dict[str, Count]:
    return {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)}
