"""The promised detection of canaries: measured once per bundle on its test days, with batch features."""

from collections.abc import Collection
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.evaluation.canaries import (
    ALERT_SCHEMA,
    PROMISED_SIZE,
    SCORE_SCHEMA,
    Count,
    KindCounts,
    counts_by_kind,
    events_of,
    judge,
    planted_copies,
)

if TYPE_CHECKING:
    import psycopg

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


def batch_scores(
    bars: pl.DataFrame,
    days: Collection[date],
    sessions: SessionTable,
    predictor: "Predictor",
    settings: "Settings",
) -> pl.DataFrame:
    """Return the scores of days as batch scoring computes them (``SCORES_SCHEMA``).

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
    return score_day(features, predictor, row_config(settings, predictor), earlier=earlier, sessions=sessions).scores


def measure_promise(
    bars: pl.DataFrame,
    days: Collection[date],
    sessions: SessionTable,
    predictor: "Predictor",
    settings: "Settings",
    *,
    seed: int,
) -> dict[str, KindCounts]:
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
    control = clean.filter("is_anomaly").select("symbol", "bar_start")
    copies, alerts, events = 0, [ALERT_SCHEMA.to_frame()], list[pl.DataFrame]()
    while copies < MOST_COPIES and sum(part.height for part in events) < EVENTS:
        [(planted, found)] = planted_copies(chosen, sessions, size=PROMISED_SIZE, seeds=[seed + copies])
        if found.is_empty():
            return {}
        scored = batch_scores(pl.concat([history, planted]), days, sessions, predictor, settings)
        alerts.append(alerts_of(scored, copies))
        events.append(found)
        copies += 1
    judged = judge(events_of(events), pl.concat(alerts), SCORE_SCHEMA.to_frame(), control)
    return counts_by_kind(judged)


def alerts_of(scores: pl.DataFrame, copy: int) -> pl.DataFrame:
    """Return the anomalous rows of ``SCORES_SCHEMA`` as ``ALERT_SCHEMA``."""
    rows = scores.filter("is_anomaly").with_columns(copy=pl.lit(copy, pl.Int64))
    return rows.select(ALERT_SCHEMA.names()).cast(ALERT_SCHEMA)  # pyright: ignore[reportArgumentType]


def promise_metrics(promise: dict[str, KindCounts], split: str) -> list["QualityMetric"]:
    """Return a promise as metrics of an evaluation: ``detected_<kind>`` and ``named_<kind>``."""
    from surveillance_pipelines.stores.model_store import QualityMetric

    return [
        QualityMetric(
            name=f"{measure}_{kind}", value=count.rate, model=METRICS_MODEL, split=split, dataset_size=count.of
        )
        for kind, counts in promise.items()
        for measure, count in (("detected", counts.detected), ("named", counts.named))
        if count.of
    ]


def load_promise(connection: "psycopg.Connection[Any]", bundle_hash: str) -> dict[str, KindCounts]:
    """Return the promise of a registered bundle by kind; empty for warm-up rules and bundles of earlier releases."""
    rows = connection.execute(_PROMISES, (bundle_hash, METRICS_MODEL)).fetchall()
    counts = {name: Count(round(value * events), events) for name, value, events in rows}
    kinds = sorted(name.removeprefix("detected_") for name in counts if name.startswith("detected_"))
    return {kind: KindCounts(counts[f"detected_{kind}"], counts.get(f"named_{kind}", Count(0, 0))) for kind in kinds}
