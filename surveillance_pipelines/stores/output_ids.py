"""Ids of stored outputs by their first characters."""

from typing import Any, Final

import psycopg

from surveillance_pipelines.stores.alerts import alert_ids_like, rows_of_alert

MOST: Final = 6
"""Maximum number of ids that are returned."""

_ROWS_AND_MESSAGES: Final = """
    SELECT id FROM surveillance.anomalies WHERE id BETWEEN %(id)s AND %(id)s || 'g'
    UNION SELECT id FROM surveillance.signals WHERE id BETWEEN %(id)s AND %(id)s || 'g'
    UNION SELECT id FROM ops.outbox WHERE id BETWEEN %(id)s AND %(id)s || 'g'
    ORDER BY id LIMIT %(most)s
"""
"""Ids are hexadecimal, so ``g`` follows every continuation of a prefix, and indexes are used."""
_PREDICTIONS: Final = """
    SELECT DISTINCT id FROM surveillance.predictions WHERE id BETWEEN %(id)s AND %(id)s || 'g'
    ORDER BY id LIMIT %(most)s
"""


def output_ids_like(connection: psycopg.Connection[Any], tenant: str, prefix: str) -> list[str]:
    """Return up to ``MOST`` ids of outputs that begin with a hexadecimal prefix.

    Anomalies, signals and messages come first, then alerts of the tenant, each as its current row. Predictions are only
    read if none of these matches, because their ids have no index.
    """
    values = {"id": prefix, "most": MOST}
    found = [id_ for (id_,) in connection.execute(_ROWS_AND_MESSAGES, values)]
    if not found:
        alerts = alert_ids_like(connection, tenant, prefix)
        found = [rows_of_alert(connection, tenant, alert)[-1]["id"] for alert in alerts]
    return found or [id_ for (id_,) in connection.execute(_PREDICTIONS, values)]
