"""Canaries in PostgreSQL: one row per planted manipulation, in ``surveillance.canaries`` and nowhere else."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

MARK: Final = "canary:"
"""Start of the run ids and message ids of canaries. Constraints of all other tables refuse rows with it."""

KEPT: Final = timedelta(days=366)
"""Rows are kept for a year, to compare the detection of bundles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRow:
    """One planted manipulation; ``score`` and ``delay_minutes`` as in ``evaluation.canaries.judge``."""

    run_id: str
    planted_at: datetime
    kind: str
    size: str
    symbol: str
    first_bar: datetime
    last_bar: datetime
    move: float
    detected: bool
    named: bool
    kind_named: str | None
    score: float | None
    delay_minutes: int | None
    bundle_hash: str
    config_hash: str
    code_version: str


_COLUMNS: Final = tuple(field.name for field in fields(CanaryRow))


def save_canaries(connection: psycopg.Connection[Any], rows: Iterable[CanaryRow], *, at: datetime) -> int:
    """Write the rows of a run, delete those older than ``KEPT``, and return the number of rows written."""
    values = [astuple(row) for row in rows]
    names, places = ", ".join(_COLUMNS), ", ".join(["%s"] * len(_COLUMNS))
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM surveillance.canaries WHERE planted_at < %s", (at - KEPT,))
        cursor.executemany(
            f"INSERT INTO surveillance.canaries ({names}) VALUES ({places})".encode(),  # noqa: S608 (constant names)
            values,
        )
    return len(values)


def canaries_in_outputs(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Return the number of rows of canaries per table that must not hold any; all 0."""
    queries = {
        "anomalies": "SELECT count(*) FROM surveillance.anomalies WHERE run_id LIKE 'canary:%'",
        "incidents": "SELECT count(*) FROM surveillance.incidents WHERE run_id LIKE 'canary:%'",
        "signals": "SELECT count(*) FROM surveillance.signals WHERE run_id LIKE 'canary:%'",
        "predictions": "SELECT count(*) FROM surveillance.predictions WHERE run_id LIKE 'canary:%'",
        "outbox": "SELECT count(*) FROM ops.outbox WHERE body LIKE '%canary:%'",
        "inbox": "SELECT count(*) FROM ops.inbox WHERE message_id LIKE 'canary:%'",
        "ledger": "SELECT count(*) FROM ops.ledger WHERE message_id LIKE 'canary:%'",
        "live_bars": "SELECT count(*) FROM ops.live_bars WHERE source_message_id LIKE 'canary:%'",
    }
    return {table: (connection.execute(query.encode()).fetchone() or (0,))[0] for table, query in queries.items()}
