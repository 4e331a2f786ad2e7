"""Queries of incidents in ``surveillance.incidents``, and of what people decided about them.

An incident has one row per step and model. Its *current row* is the last one: by the bar of its last alert, then by
step, so that a closed incident stays closed.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg.rows import class_row, dict_row

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.contracts.outputs import Disposition, IncidentStatus, Severity

_ORDER: Final = (
    "({0}.last_bar_start, array_position(ARRAY['opened', 'retracted', 'confirmed', 'updated', 'closed'], "
    "{0}.incident_status), coalesce({0}.t_committed, '-infinity'::timestamptz), {0}.id)"
)
_NEWEST_DISPOSITION: Final = """
    LEFT JOIN LATERAL (
        SELECT disposition, note, decided_by, decided_at FROM surveillance.dispositions
        WHERE dispositions.incident_id = incident.incident_id AND dispositions.tenant = incident.tenant
        ORDER BY dispositions.id DESC LIMIT 1
    ) AS decided ON true
"""
_MATCHING: Final = f"""
    FROM surveillance.incidents AS incident {_NEWEST_DISPOSITION}
    WHERE incident.tenant = %(tenant)s
      AND (%(symbols)s::text[] IS NULL OR incident.symbol = ANY(%(symbols)s))
      AND (%(severity)s::text[] IS NULL OR incident.severity = ANY(%(severity)s))
      AND (%(status)s::text IS NULL OR incident.incident_status = %(status)s)
      AND (%(undecided)s::bool IS NOT TRUE OR decided.disposition IS NULL)
      AND (%(since)s::timestamptz IS NULL OR incident.first_bar_start >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR incident.first_bar_start < %(until)s)
      AND (%(retracted)s::bool IS TRUE OR incident.incident_status <> 'retracted')
      AND NOT EXISTS (
          SELECT 1 FROM surveillance.incidents AS later
          WHERE later.incident_id = incident.incident_id AND {_ORDER.format("later")} > {_ORDER.format("incident")}
      )
"""  # noqa: S608 (constant text)
_NEWEST: Final = f"""
    SELECT incident.incident_id, incident.symbol, incident.incident_status, incident.severity, incident.kind,
           incident.kinds, incident.alerts, incident.first_bar_start, incident.last_bar_start, incident.first_price,
           incident.price, incident.score, incident.warmup, incident.bundle_hash, incident.explanation,
           decided.disposition
    {_MATCHING}
    ORDER BY incident.first_bar_start DESC, incident.symbol LIMIT %(limit)s
"""
_COUNT: Final = f"SELECT count(*) FROM (SELECT 1 {_MATCHING} LIMIT %(at_most)s) AS matching"  # noqa: S608 (constant text)
_BY_ID: Final = """
    SELECT DISTINCT incident_id FROM surveillance.incidents
    WHERE tenant = %(tenant)s
      AND (id BETWEEN %(id)s AND %(id)s || 'g' OR incident_id BETWEEN %(id)s AND %(id)s || 'g')
    ORDER BY incident_id LIMIT 6
"""
"""Ids are hexadecimal, so ``g`` follows every continuation of a prefix, and both indexes are used."""
_ROWS: Final = f"""
    SELECT * FROM surveillance.incidents AS incident WHERE incident_id = %s AND tenant = %s
    ORDER BY {_ORDER.format("incident")}
"""  # noqa: S608 (constant text)
_ALERTS: Final = """
    SELECT bar_start, kind, score, confidence, price, volume, alert_id, explanation ->> 'summary' AS summary
    FROM surveillance.anomalies
    WHERE tenant = %(tenant)s AND symbol = %(symbol)s AND bundle_hash = %(bundle_hash)s
      AND bar_start BETWEEN %(first)s AND %(last)s AND alert_status = 'confirmed'
    ORDER BY bar_start, kind LIMIT %(limit)s
"""
_DISPOSITIONS: Final = """
    SELECT disposition, note, decided_by, decided_at FROM surveillance.dispositions
    WHERE tenant = %s AND incident_id = %s ORDER BY id
"""
_DECIDE: Final = """
    INSERT INTO surveillance.dispositions (tenant, incident_id, disposition, note, decided_by, decided_at)
    VALUES (%s, %s, %s, %s, %s, %s)
"""
_SIMILAR: Final = f"""
    SELECT incident.incident_id, incident.symbol, incident.first_bar_start, incident.kind, incident.severity,
           incident.score, incident.alerts, decided.disposition, decided.note
    FROM surveillance.incidents AS incident {_NEWEST_DISPOSITION}
    WHERE incident.tenant = %(tenant)s AND incident.kind = %(kind)s AND incident.incident_status = 'closed'
      AND incident.first_bar_start < %(before)s AND incident.incident_id <> %(incident_id)s
    ORDER BY decided.disposition IS NULL, incident.symbol <> %(symbol)s, abs(incident.score - %(score)s),
             incident.first_bar_start DESC
    LIMIT %(limit)s
"""  # noqa: S608 (constant text)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentFilter:
    """Conditions on the current rows of incidents; None and empty mean no condition.

    Attributes:
        symbols: symbols.
        severities: severities.
        status: status.
        undecided: only those without a disposition.
        since: first UTC day of their first bars.
        until: last UTC day of their first bars, included.
        retracted: whether retracted incidents are included.
    """

    symbols: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ()
    status: IncidentStatus | None = None
    undecided: bool = False
    since: date | None = None
    until: date | None = None
    retracted: bool = False


@dataclass(frozen=True, slots=True)
class IncidentSummary:
    """The current row of an incident, in part, and its newest disposition."""

    incident_id: str
    symbol: str
    incident_status: IncidentStatus
    severity: Severity
    kind: str
    kinds: dict[str, int]
    alerts: int
    first_bar_start: datetime
    last_bar_start: datetime
    first_price: float
    price: float
    score: float
    warmup: bool
    bundle_hash: str
    explanation: dict[str, Any]
    disposition: Disposition | None


def newest_incidents(
    connection: psycopg.Connection[Any], tenant: str, conditions: IncidentFilter, limit: int
) -> list[IncidentSummary]:
    """Return the incidents that match, the newest first."""
    with connection.cursor(row_factory=class_row(IncidentSummary)) as cursor:
        return cursor.execute(_NEWEST.encode(), _values(tenant, conditions) | {"limit": limit}).fetchall()


def count_incidents(connection: psycopg.Connection[Any], tenant: str, conditions: IncidentFilter, at_most: int) -> int:
    """Return the number of incidents that match, or ``at_most`` if there are more."""
    row = connection.execute(_COUNT.encode(), _values(tenant, conditions) | {"at_most": at_most}).fetchone()
    return 0 if row is None else row[0]


def incident_ids_like(connection: psycopg.Connection[Any], tenant: str, prefix: str) -> list[str]:
    """Return up to six ids of incidents that begin with a hexadecimal prefix, or have a row whose id does."""
    return [found for (found,) in connection.execute(_BY_ID, {"tenant": tenant, "id": prefix})]


def rows_of_incident(connection: psycopg.Connection[Any], tenant: str, incident_id: str) -> list[dict[str, Any]]:
    """Return all rows of an incident with every column of the table, the current one last."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_ROWS.encode(), (incident_id, tenant)).fetchall()


def alerts_of_incident(
    connection: psycopg.Connection[Any], incident: dict[str, Any], *, limit: int
) -> list[dict[str, Any]]:
    """Return the confirmed alerts of an incident's row, oldest first."""
    values = {name: incident[name] for name in ("tenant", "symbol", "bundle_hash")}
    values |= {"first": incident["first_bar_start"], "last": incident["last_bar_start"], "limit": limit}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_ALERTS, values).fetchall()


def similar_incidents(
    connection: psycopg.Connection[Any], incident: dict[str, Any], *, limit: int
) -> list[dict[str, Any]]:
    """Return earlier closed incidents of the same kind: decided ones first, then the symbol's own, then by score."""
    values = {name: incident[name] for name in ("tenant", "symbol", "kind", "score", "incident_id")}
    values |= {"before": incident["first_bar_start"], "limit": limit}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_SIMILAR.encode(), values).fetchall()


def dispositions_of(connection: psycopg.Connection[Any], tenant: str, incident_id: str) -> list[dict[str, Any]]:
    """Return what people decided about an incident, oldest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_DISPOSITIONS, (tenant, incident_id)).fetchall()


def add_disposition(
    connection: psycopg.Connection[Any],
    tenant: str,
    incident_id: str,
    disposition: Disposition,
    *,
    note: str | None,
    decided_by: str,
    decided_at: int,
) -> None:
    """Record what a person decided about an incident; earlier decisions are kept."""
    connection.execute(_DECIDE, (tenant, incident_id, disposition, note, decided_by, to_datetime(decided_at)))


def _values(tenant: str, conditions: IncidentFilter) -> dict[str, Any]:
    until = None if conditions.until is None else conditions.until + timedelta(days=1)
    return {
        "tenant": tenant,
        "symbols": list(conditions.symbols) or None,
        "severity": list(conditions.severities) or None,
        "status": conditions.status,
        "undecided": conditions.undecided,
        "since": _midnight(conditions.since),
        "until": _midnight(until),
        "retracted": conditions.retracted or conditions.status == "retracted",
    }


def _midnight(day: date | None) -> str | None:
    return None if day is None else f"{day}T00:00:00Z"
