"""Queries of alerts in ``surveillance.anomalies``.

An alert has one row per status and model. Its *current row* is the last one: a closed bar's after that of the bar in
progress, then the later one in event time and commit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import class_row, dict_row

from surveillance_pipelines.contracts.outputs import AlertStatus

_ORDER: Final = (
    "({0}.bar_status <> 'provisional', {0}.event_time, coalesce({0}.t_committed, '-infinity'::timestamptz), {0}.id)"
)
_MATCHING: Final = f"""
    FROM surveillance.anomalies AS alert
    WHERE alert.tenant = %(tenant)s
      AND (%(symbols)s::text[] IS NULL OR alert.symbol = ANY(%(symbols)s))
      AND (%(kind)s::text IS NULL OR alert.kind = %(kind)s)
      AND (%(status)s::text IS NULL OR alert.alert_status = %(status)s)
      AND (%(since)s::timestamptz IS NULL OR alert.bar_start >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR alert.bar_start < %(until)s)
      AND (%(min_score)s::float8 IS NULL OR alert.score >= %(min_score)s)
      AND NOT EXISTS (
          SELECT 1 FROM surveillance.anomalies AS later
          WHERE later.alert_id = alert.alert_id AND {_ORDER.format("later")} > {_ORDER.format("alert")}
      )
"""  # noqa: S608 (constant text)
_NEWEST: Final = f"""
    SELECT alert.id, alert.alert_id, alert.bar_start, alert.symbol, alert.kind, alert.alert_status, alert.score,
           alert.threshold, alert.confidence, alert.risk_score, alert.price, alert.volume, alert.warmup,
           alert.bundle_hash, alert.explanation ? 'outside_training' AS outside_training
    {_MATCHING}
    ORDER BY alert.bar_start DESC, alert.symbol, alert.kind LIMIT %(limit)s
"""
_COUNT: Final = f"SELECT count(*) FROM (SELECT 1 {_MATCHING} LIMIT %(at_most)s) AS matching"  # noqa: S608 (constant text)
_EXISTING: Final = """
    WITH grouped AS (
        SELECT symbol, kind, min(bar_start) AS first, max(bar_start) AS last, max(score) AS highest_score
        FROM surveillance.anomalies WHERE tenant = %(tenant)s GROUP BY symbol, kind
    )
    SELECT (SELECT count(*) FROM (SELECT 1 FROM surveillance.anomalies WHERE tenant = %(tenant)s
                                  GROUP BY alert_id) AS ids) AS alerts,
           min(first) AS first, max(last) AS last, max(highest_score) AS highest_score,
           array_agg(DISTINCT symbol) AS symbols, array_agg(DISTINCT kind) AS kinds
    FROM grouped HAVING count(*) > 0
"""
"""Groups are hashed; DISTINCT over all rows would sort them."""
_BY_ID: Final = """
    SELECT DISTINCT alert_id FROM surveillance.anomalies
    WHERE tenant = %(tenant)s
      AND (id BETWEEN %(id)s AND %(id)s || 'g' OR alert_id BETWEEN %(id)s AND %(id)s || 'g')
    ORDER BY alert_id LIMIT 6
"""
"""Ids are hexadecimal, so ``g`` follows every continuation of a prefix, and both indexes are used."""
_ROWS: Final = f"""
    SELECT * FROM surveillance.anomalies AS alert WHERE alert_id = %s AND tenant = %s ORDER BY {_ORDER.format("alert")}
"""  # noqa: S608 (constant text)
_LIVE_BAR: Final = """
    SELECT open, high, low, close, volume, source FROM ops.live_bars WHERE symbol = %s AND bar_start = %s
    ORDER BY revision LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Conditions on the current rows of alerts; None and empty mean no condition.

    Attributes:
        symbols: symbols of the bars.
        kind: kind of anomaly.
        status: status of the alert.
        since: first UTC day of the bars.
        until: last UTC day of the bars, included.
        min_score: smallest anomaly score.
    """

    symbols: tuple[str, ...] = ()
    kind: str | None = None
    status: AlertStatus | None = None
    since: date | None = None
    until: date | None = None
    min_score: float | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """The current row of an alert, in part. ``outside_training``: its bar is outside the models' training data."""

    id: str
    alert_id: str
    bar_start: datetime
    symbol: str
    kind: str
    alert_status: AlertStatus
    score: float
    threshold: float
    confidence: float
    risk_score: float
    price: float
    volume: float
    warmup: bool
    bundle_hash: str
    outside_training: bool


@dataclass(frozen=True, slots=True)
class ExistingAlerts:
    """Summary of all alerts of a tenant: their number, the range of their bars, and the values of their columns."""

    alerts: int
    first: datetime
    last: datetime
    highest_score: float
    symbols: list[str]
    kinds: list[str]


def newest_alerts(connection: psycopg.Connection[Any], tenant: str, conditions: AlertFilter, limit: int) -> list[Alert]:
    """Return the alerts that match, those of the newest bars first."""
    with connection.cursor(row_factory=class_row(Alert)) as cursor:
        return cursor.execute(_NEWEST.encode(), _values(tenant, conditions) | {"limit": limit}).fetchall()


def count_alerts(connection: psycopg.Connection[Any], tenant: str, conditions: AlertFilter, at_most: int) -> int:
    """Return the number of alerts that match, or ``at_most`` if there are more."""
    row = connection.execute(_COUNT.encode(), _values(tenant, conditions) | {"at_most": at_most}).fetchone()
    return 0 if row is None else row[0]


def existing_alerts(connection: psycopg.Connection[Any], tenant: str) -> ExistingAlerts | None:
    """Return a summary of all alerts of a tenant; None if it has none."""
    with connection.cursor(row_factory=class_row(ExistingAlerts)) as cursor:
        return cursor.execute(_EXISTING, {"tenant": tenant}).fetchone()


def alert_ids_like(connection: psycopg.Connection[Any], tenant: str, prefix: str) -> list[str]:
    """Return up to six ids of alerts that begin with a hexadecimal prefix, or have a row whose id begins with it."""
    return [found for (found,) in connection.execute(_BY_ID, {"tenant": tenant, "id": prefix})]


def rows_of_alert(connection: psycopg.Connection[Any], tenant: str, alert_id: str) -> list[dict[str, Any]]:
    """Return all rows of an alert with every column of the table, the current one last."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_ROWS.encode(), (alert_id, tenant)).fetchall()


def live_bar(connection: psycopg.Connection[Any], symbol: str, bar_start: datetime) -> Mapping[str, Any] | None:
    """Return prices, volume and source of a closed bar of the live lane, as first closed; None if there is none."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_LIVE_BAR, (symbol, bar_start)).fetchone()


def _values(tenant: str, conditions: AlertFilter) -> dict[str, Any]:
    after = None if conditions.until is None else conditions.until + timedelta(days=1)
    return {
        "tenant": tenant,
        "symbols": list(conditions.symbols) or None,
        "kind": conditions.kind,
        "status": conditions.status,
        "since": _midnight(conditions.since),
        "until": _midnight(after),
        "min_score": conditions.min_score,
    }


def _midnight(day: date | None) -> str | None:
    return None if day is None else f"{day}T00:00:00Z"
