"""Queries of the asset checks: conservation of messages, latency, refused inputs, consistency of alerts and signals."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import polars as pl
import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now
from surveillance_pipelines.engine.repeats import CONFLICT

_BALANCE: Final = """
    SELECT (SELECT count(*) FROM ops.inbox),
           (SELECT count(*) FROM ops.inbox LEFT JOIN ops.ledger USING (message_id) WHERE ledger.message_id IS NULL),
           (SELECT count(*) FROM ops.ledger LEFT JOIN ops.inbox USING (message_id) WHERE inbox.message_id IS NULL),
           (SELECT coalesce(jsonb_object_agg(outcome, messages), '{}')
            FROM (SELECT outcome, count(*) AS messages FROM ops.ledger GROUP BY outcome) AS counted)
"""

_COMPUTE: Final = """
    SELECT count(*), percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY milliseconds) FROM (
        SELECT 1000 * extract(epoch FROM t_computed - t_received) AS milliseconds
        FROM surveillance.predictions WHERE t_computed > %(since)s AND t_received IS NOT NULL
        UNION ALL
        SELECT 1000 * extract(epoch FROM t_computed - t_received)
        FROM surveillance.anomalies WHERE t_computed > %(since)s AND t_received IS NOT NULL
    ) AS scored
"""

_REFUSED: Final = """
    SELECT coalesce(sum(rows_in), 0)::bigint, coalesce(sum(rows_dead), 0)::bigint
    FROM surveillance.ingestion_runs WHERE source = %s
"""

_REPEATED: Final = """
    SELECT count(*) FROM (
        SELECT 1 FROM surveillance.anomalies GROUP BY alert_id, alert_status, bundle_hash, config_hash, feature_view
        HAVING count(*) > 1
    ) AS repeated
"""

_WITHOUT_INCIDENT: Final = """
    WITH known AS (SELECT min(first_bar_start) AS since FROM surveillance.incidents),
         newest AS (SELECT max(bar_start) AS until FROM surveillance.anomalies),
         recent AS (
             SELECT alert.* FROM surveillance.anomalies AS alert, known, newest
             WHERE alert.alert_status = 'confirmed' AND alert.bar_start >= known.since
               AND alert.bar_start > newest.until - make_interval(days => %s)
         )
    SELECT count(*), count(*) FILTER (WHERE NOT EXISTS (
        SELECT FROM surveillance.incidents AS incident
        WHERE incident.symbol = recent.symbol
          AND (incident.tenant, incident.strategy, incident.timeframe, incident.bundle_hash, incident.config_hash)
            = (recent.tenant, recent.strategy, recent.timeframe, recent.bundle_hash, recent.config_hash)
          AND incident.first_bar_start <= recent.bar_start
          AND incident.first_bar_start >= date_trunc('day', recent.bar_start, 'UTC')
          AND (incident.last_bar_start >= recent.bar_start OR NOT EXISTS (
              SELECT FROM surveillance.incidents AS closed
              WHERE closed.incident_id = incident.incident_id AND closed.bundle_hash = incident.bundle_hash
                AND closed.incident_status = 'closed'
          ))
    )) FROM recent
"""
"""An open incident has no row for each further alert. Alerts before the first incident are of older releases."""

_UNEVEN: Final = """
    SELECT count(*) FROM surveillance.signals
    WHERE abs(buy_probability + hold_probability + sell_probability - 1) > 1e-6 OR action <> kind
"""


@dataclass(frozen=True, slots=True)
class Balance:
    """Comparison of inputs and outcomes.

    Attributes:
        taken: number of messages in the inbox.
        without_outcome: number of these messages without a ledger row.
        without_message: number of ledger rows without a message.
        outcomes: outcome (scored, late, dead, duplicate) → number of messages.
    """

    taken: int
    without_outcome: int
    without_message: int
    outcomes: dict[str, int]

    @property
    def holds(self) -> bool:
        return not self.without_outcome and not self.without_message and self.taken == sum(self.outcomes.values())

    @property
    def dead_share(self) -> float:
        return self.outcomes.get("dead", 0) / self.taken if self.taken else 0.0


def balance(connection: psycopg.Connection[Any]) -> Balance:
    """Compare inputs and outcomes of all queues, at one instant."""
    row = connection.execute(_BALANCE).fetchone()
    assert row is not None
    return Balance(*row)


def dead_letter_codes(connection: psycopg.Connection[Any], *, source: str) -> dict[str, int]:
    """Return code → number of refused inputs of a source, most frequent first."""
    rows = connection.execute(
        "SELECT code, count(*) FROM ops.dead_letters WHERE source = %s GROUP BY code ORDER BY 2 DESC", (source,)
    )
    return dict(rows.fetchall())


def unreplayed_conflicts(connection: psycopg.Connection[Any]) -> int:
    """Return the number of messages with the id of an earlier one and another content that were not replayed."""
    rows = connection.execute(
        "SELECT count(*) FROM ops.dead_letters WHERE code = %s AND replayed_at IS NULL", (CONFLICT,)
    )
    ((count,),) = rows.fetchall()
    return count


def compute_latency(
    connection: psycopg.Connection[Any], *, hours: float, clock: Clock = SYSTEM_CLOCK
) -> tuple[int, float, float]:
    """Return the number of rows scored live in the last hours, and p50 and p99 of received → computed in milliseconds.

    All values are 0 if there are no such rows.
    """
    values = {"since": now(clock) - timedelta(hours=hours)}
    count, percentiles = connection.execute(_COMPUTE, values).fetchone() or (0, None)
    p50, p99 = percentiles or (0.0, 0.0)
    return count, float(p50), float(p99)


def refused_share(connection: psycopg.Connection[Any], source: str) -> tuple[int, float]:
    """Return the number of rows of a source over all ingestion runs, and the share of refused rows."""
    rows, refused = connection.execute(_REFUSED, (source,)).fetchone() or (0, 0)
    return rows, refused / rows if rows else 0.0


def repeated_alerts(connection: psycopg.Connection[Any]) -> int:
    """Return the number of alerts with a repeated status for the same model and configuration."""
    row = connection.execute(_REPEATED).fetchone()
    assert row is not None
    return row[0]


def alerts_without_incident(connection: psycopg.Connection[Any], *, days: int) -> tuple[int, int]:
    """Return the number of confirmed alerts of the newest days with alerts, and how many belong to no incident."""
    return connection.execute(_WITHOUT_INCIDENT, (days,)).fetchone() or (0, 0)


def inconsistent_signals(connection: psycopg.Connection[Any]) -> int:
    """Return the number of signals with probabilities that do not sum to 1, or an action that differs from the kind."""
    row = connection.execute(_UNEVEN).fetchone()
    assert row is not None
    return row[0]


def outside_unit_interval(scores: pl.DataFrame, columns: Sequence[str]) -> dict[str, int]:
    """Return column → number of values that are not in 0..1, for columns with such values."""
    inside = pl.col(*columns).is_between(0.0, 1.0).fill_null(value=False)
    counts = scores.select((~inside).sum()).row(0, named=True)
    return {name: count for name, count in counts.items() if count}
