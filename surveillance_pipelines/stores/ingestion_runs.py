"""Visits to a source of bars: how many rows came, landed, were refused, and which were refused and why."""

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

_LETTER_COLUMNS: Final = ("message_id", "source", "body", "code", "reason", "received_at")
_VISIT_COLUMNS: Final = (
    "id", "source", "started_at", "finished_at", "rows_in", "rows_landed", "rows_dead", "rows_duplicate", "detail",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionRun:
    """One look at a source; rows in = landed + refused + duplicates."""

    source: str
    started_at: datetime
    finished_at: datetime
    rows_in: int
    landed: int
    refusals: "Sequence[RowRefusal]" = ()
    duplicates: int = 0
    detail: dict[str, Any] = field(default_factory=dict)


def record_ingestion_run(connection: psycopg.Connection[Any], visit: IngestionRun) -> None:
    """Keep a visit, and each refused row once, however often it comes; the caller commits."""
    letters = [
        (
            sha256_text(f"{visit.source}\n{refusal.row}\n{refusal.body}"),
            visit.source,
            refusal.body,
            refusal.code,
            f"{refusal.where}: {refusal.reason}",
            # A microsecond apart, so that the newest-first list keeps the order of the source.
            visit.finished_at - timedelta(microseconds=place),
        )
        for place, refusal in enumerate(visit.refusals)
    ]
    counts = (visit.rows_in, visit.landed, len(visit.refusals), visit.duplicates)
    row = (uuid.uuid4().hex, visit.source, visit.started_at, visit.finished_at, *counts, json.dumps(visit.detail))
    upsert_rows(connection, "ops.dead_letters", _LETTER_COLUMNS, letters, ("message_id",))
    upsert_rows(connection, "surveillance.ingestion_runs", _VISIT_COLUMNS, [row], ("id",))
