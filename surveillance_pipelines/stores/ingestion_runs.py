"""Ingestion runs in PostgreSQL: counts of received, landed and refused rows, and the refused rows with reasons."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg

from surveillance_pipelines.hashing import sha256_text
from surveillance_pipelines.stores.database import upsert_rows

if TYPE_CHECKING:
    from surveillance_pipelines.market.row_checks import RowRefusal

_DEAD_LETTER_COLUMNS: Final = ("message_id", "source", "body", "code", "reason", "received_at")
_RUN_COLUMNS: Final = (
    "id", "source", "started_at", "finished_at", "rows_in", "rows_landed", "rows_dead", "rows_duplicate", "detail",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionRun:
    """One ingestion from a source; rows in = landed + refused + duplicates."""

    source: str
    started_at: datetime
    finished_at: datetime
    rows_in: int
    landed: int
    refusals: "Sequence[RowRefusal]" = ()
    duplicates: int = 0
    detail: dict[str, Any] = field(default_factory=dict)


def record_ingestion_run(connection: psycopg.Connection[Any], run: IngestionRun) -> None:
    """Record an ingestion run and its refused rows, each once even if it recurs; the caller commits."""
    dead_letters = [
        (
            sha256_text(f"{run.source}\n{refusal.row}\n{refusal.body}"),
            run.source,
            refusal.body,
            refusal.code,
            f"{refusal.where}: {refusal.reason}",
            # One microsecond apart, so that a list sorted newest first keeps the order of the source.
            run.finished_at - timedelta(microseconds=place),
        )
        for place, refusal in enumerate(run.refusals)
    ]
    counts = (run.rows_in, run.landed, len(run.refusals), run.duplicates)
    row = (uuid.uuid4().hex, run.source, run.started_at, run.finished_at, *counts, json.dumps(run.detail))
    upsert_rows(connection, "ops.dead_letters", _DEAD_LETTER_COLUMNS, dead_letters, ("message_id",))
    upsert_rows(connection, "surveillance.ingestion_runs", _RUN_COLUMNS, [row], ("id",))


def ingestion_run_at(connection: psycopg.Connection[Any], source: str, at: datetime) -> dict[str, Any] | None:
    """Return the details of the ingestion from a source that was in progress at an instant; None unless it is one.

    Args:
        connection: connection to PostgreSQL.
        source: source of the bars.
        at: instant of a commit of the lake, in whole milliseconds.
    """
    rows = connection.execute(
        "SELECT detail FROM surveillance.ingestion_runs"
        " WHERE source = %s AND rows_landed > 0 AND started_at < %s AND finished_at >= %s",
        (source, at + timedelta(milliseconds=1), at),
    ).fetchall()
    return rows[0][0] if len(rows) == 1 else None
