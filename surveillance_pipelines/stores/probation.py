"""Served bars of a champion since its promotion, and the metrics of its evaluation."""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import psycopg

_LONGEST: Final = timedelta(days=30)
"""Range of bars that is read at most: a probation that takes longer is judged by its first bars."""
_SLACK: Final = timedelta(hours=1)
"""Bars may close this long after the first message that a bundle scores, and begin before it."""
_FIRST_MESSAGES: Final = 1_000

_POSITION: Final = """
    SELECT coalesce(min(after_position) FILTER (WHERE recorded_at >= %(since)s), max(after_position))
    FROM ops.served_bundles WHERE bundle_hash = %(bundle)s
"""
_FIRST_EVENT: Final = """
    SELECT min(event_time) FROM (
        SELECT event_time FROM ops.inbox WHERE position > %s ORDER BY position LIMIT %s
    ) AS first_messages
"""
# Predictions are keyed by bar_start, so the range of bars keeps the query off the other rows of a large table. Rows of
# batch scoring have no t_committed.
_BLOCKS: Final = """
    SELECT count(*), count(DISTINCT bar_start), count(*) FILTER (WHERE anomaly_score >= %(threshold)s),
        count(*) FILTER (WHERE anomaly_score >= %(half)s),
        count(*) FILTER (WHERE jsonb_array_length(excluded_models) > 0)
    FROM surveillance.predictions
    WHERE bar_start >= %(first)s AND bar_start < %(last)s AND bundle_hash = %(bundle)s AND t_committed >= %(since)s
    GROUP BY date_bin(%(block)s, bar_start, 'epoch') ORDER BY date_bin(%(block)s, bar_start, 'epoch')
"""
_METRICS: Final = """
    SELECT DISTINCT ON (metric_name) metric_name, metric_value
    FROM surveillance.model_metrics JOIN surveillance.model_versions AS versions ON versions.id = model_version_id
    WHERE versions.version = %s AND versions.strategy_id = %s AND model = 'anomaly' AND metric_name = ANY(%s)
    ORDER BY metric_name, evaluated_at DESC
"""


class ServedCounts(NamedTuple):
    """Final bars of the live lane in one block of time.

    ``minutes`` counts different minutes, ``alerts`` the bars from the threshold on, ``half_threshold`` those from the
    lower score on, and ``fallback`` those scored without one of the members.
    """

    bars: int
    minutes: int
    alerts: int
    half_threshold: int
    fallback: int


def served_blocks(
    connection: psycopg.Connection[Any],
    bundle_hash: str,
    since: datetime,
    *,
    block: timedelta,
    threshold: float,
    half: float,
) -> list[ServedCounts]:
    """Return the final bars that a bundle has scored in the live lane since an instant, in blocks, oldest first.

    Args:
        connection: connection to PostgreSQL.
        bundle_hash: hash of the bundle.
        since: instant of the promotion.
        block: length of a block.
        threshold: score of an alert.
        half: the lower score to count.
    """
    position = connection.execute(_POSITION, {"since": since, "bundle": bundle_hash}).fetchone()
    if position is None or position[0] is None:
        return []
    first = connection.execute(_FIRST_EVENT, (position[0], _FIRST_MESSAGES)).fetchone()
    if first is None or first[0] is None:
        return []
    values = {
        "first": first[0] - _SLACK, "last": first[0] + _LONGEST, "bundle": bundle_hash, "since": since,
        "block": block, "threshold": threshold, "half": half,
    }  # fmt: skip
    return [ServedCounts(*row) for row in connection.execute(_BLOCKS, values)]


def anomaly_metrics(
    connection: psycopg.Connection[Any], version: str, strategy: str, names: list[str]
) -> dict[str, float]:
    """Return the newest values of metrics of a version's whole bundle, by name; those that exist."""
    return dict(connection.execute(_METRICS, (version, strategy, names)).fetchall())
