"""The tables written by the live lane: columns, types and values.

All rows of a table are inserted by one statement over JSON arrays, so a micro-batch needs one statement per table.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import attrgetter
from typing import Any, Final

from surveillance_pipelines.clock import to_datetime, to_us
from surveillance_pipelines.contracts.market import Bar
from surveillance_pipelines.contracts.outputs import (
    INSTANT_FIELDS,
    Anomaly,
    Incident,
    OutputRow,
    Signal,
    column_names,
)
from surveillance_pipelines.hashing import canonical_json

_TYPES: Final = {
    "date": "date", "receive_count": "int", "fencing": "bigint", "state": "bytea",
    **dict.fromkeys(("explanation", "kinds", "alert_ids", "model_ids", "excluded_models"), "jsonb"),
    "fallback_used": "bool", "warmup": "bool", "day": "date",
    **dict.fromkeys(("revision", "horizon_minutes", "market_peers", "alerts"), "int"),
    "trades": "bigint",
    **dict.fromkeys(
        ("open", "high", "low", "close", "volume", "price", "score", "threshold", "confidence", "risk_score",
         "reconstruction_error", "anomaly_score", "buy_probability", "hold_probability", "sell_probability",
         "market_return", "first_price"),
        "float8",
    ),
    **dict.fromkeys(
        (*INSTANT_FIELDS, "sent_at", "received_at", "committed_at", "updated_at", "created_at", "recorded_at",
         "first_event_time", "as_of_bar_start", "added_at"),
        "timestamptz",
    ),
}  # fmt: skip
"""Column name → PostgreSQL type; default: text."""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: name with schema.
        columns: columns to write.
        conflict: ``ON CONFLICT`` action for existing rows; None makes them an error.
        returning: columns that the insert returns for each new row.
    """

    name: str
    columns: tuple[str, ...]
    conflict: str | None = "DO NOTHING"
    returning: tuple[str, ...] = ()

    @cached_property
    def insert(self) -> bytes:
        """The INSERT statement over one JSON array per column; rows are inserted in the order of the arrays."""
        names = ", ".join(self.columns)
        values = ", ".join(_cast(name) for name in self.columns)
        arrays = ", ".join(_array(name) for name in self.columns)
        statement = (
            f"INSERT INTO {self.name} ({names}) SELECT {values} "  # noqa: S608 (constant names)
            f"FROM ROWS FROM ({arrays}) WITH ORDINALITY AS rows ({names}, ordinal) ORDER BY ordinal"
        )
        conflict = "" if self.conflict is None else f" ON CONFLICT {self.conflict}"
        returning = f" RETURNING {', '.join(self.returning)}" if self.returning else ""
        return f"{statement}{conflict}{returning}".encode()  # psycopg accepts bytes, or literal text only

    def parameters(self, rows: Iterable[Sequence[Any]]) -> list[Any]:
        """Return rows as one JSON array per column, and as a list for bytes.

        Psycopg writes PostgreSQL's own arrays value by value in Python, which takes several times as long.

        Args:
            rows: values in the order of the columns; instants in microseconds, JSON as text, None for NULL.
        """
        return [
            list(values) if _TYPES.get(name) == "bytea" else _json_array(values)
            for name, values in zip(self.columns, zip(*rows, strict=True), strict=True)
        ]


def _array(column: str) -> str:
    if _TYPES.get(column) == "bytea":  # in binary; as text, bytes have twice the length
        return "unnest(%b::bytea[])"
    return "json_array_elements_text(%s::json)"


def _cast(column: str) -> str:
    kind = _TYPES.get(column, "text")
    if kind == "timestamptz":  # exact: microseconds since the epoch are below 2^53
        return f"'epoch'::timestamptz + {column}::float8 * interval '1 microsecond'"
    return column if kind == "text" else f"{column}::{kind}"


def _json_array(values: Sequence[Any]) -> str:
    try:
        return _ENCODER.encode(values)
    except ValueError:  # NaN or infinity, which PostgreSQL reads as text
        return _ENCODER.encode([str(value) if isinstance(value, float) else value for value in values])


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=str)


INBOX: Final = Table(
    "ops.inbox",
    ("message_id", "queue_url", "group_id", "dedup_id", "sequence_number", "body", "sent_at", "received_at",
     "receive_count", "sender_id", "event_time", "symbol", "run_id", "committed_at"),
    conflict=None,
)  # fmt: skip
LEDGER: Final = Table(
    "ops.ledger",
    ("message_id", "dedup_id", "queue_url", "outcome", "reason", "committed_at", "run_id", "fencing"),
    conflict=None,
)
DEAD_LETTERS: Final = Table(
    "ops.dead_letters", ("message_id", "queue_url", "body", "code", "reason", "received_at", "source")
)
FEATURE_STATE: Final = Table(
    "ops.feature_state",
    ("queue_url", "symbol", "feature_view", "as_of_bar_start", "day", "state", "updated_at"),
    "(queue_url, symbol, feature_view) DO UPDATE SET as_of_bar_start = EXCLUDED.as_of_bar_start, "
    "day = EXCLUDED.day, state = EXCLUDED.state, updated_at = EXCLUDED.updated_at",
)
BAR_COLUMNS: Final = (
    "symbol", "bar_start", "open", "high", "low", "close", "volume", "trades", "first_event_time", "event_time",
    "revision", "bar_status", "knowledge_time", "source_message_id", "market_return", "market_peers", "source",
    "market_centre",
)  # fmt: skip
_BAR_VALUES: Final = attrgetter(*BAR_COLUMNS)
_BAR_INSTANTS: Final = tuple(name for name in BAR_COLUMNS if _TYPES.get(name) == "timestamptz")
LIVE_BARS: Final = Table("ops.live_bars", (*BAR_COLUMNS, "queue_url", "run_id", "committed_at"))
OUTBOX: Final = Table(
    "ops.outbox",
    ("id", "queue_url", "row_type", "body", "group_id", "created_at", "run_id"),
    returning=("id", "position"),
)
INSTRUMENTS: Final = Table("surveillance.instruments", ("symbol", "calendar", "added_at", "source"))
LAST_POSITION: Final = "CASE WHEN is_called THEN last_value ELSE 0 END FROM ops.inbox_positions"
"""Position of the newest message, read from the sequence, because its row may be in any partition or dropped.

Positions assigned for other queues in the meantime do not matter: only one run at a time assigns positions of a queue.
"""
CLOCK_ROW: Final = f"""
    INSERT INTO ops.clock_rows (queue_url, queue_clock, recorded_at, symbols, run_id, after_position)
    SELECT %s, %s, %s, %s, %s, {LAST_POSITION}
"""
"""Ordered after all messages committed so far, so that a replay closes the same bars between the same messages."""
SERVED_BUNDLE: Final = f"""
    INSERT INTO ops.served_bundles (queue_url, bundle_hash, feature_view, recorded_at, run_id, after_position)
    SELECT %s, %s, %s, %s, %s, {LAST_POSITION}
"""
"""Ordered after all messages committed so far; inserted before the messages that the bundle scores."""
BREAKER_EVENT: Final = f"""
    INSERT INTO ops.breaker_events (queue_url, model, state, reason, recorded_at, run_id, after_position)
    SELECT %s, %s, %s, %s, %s, %s, {LAST_POSITION}
"""
LANE_SEED: Final = f"""
    INSERT INTO ops.lane_seeds (queue_url, symbol, feature_view, calendar, as_of_bar_start, history, sha256,
                                recorded_at, run_id, after_position)
    SELECT %s, %s, %s, %s, %s, %b, %s, %s, %s, {LAST_POSITION}
"""
"""Inserted before the messages of its transaction, which are the first ones scored from this seed."""
ANOMALIES: Final = Table("surveillance.anomalies", column_names(Anomaly))
INCIDENTS: Final = Table("surveillance.incidents", column_names(Incident))
SIGNALS: Final = Table("surveillance.signals", column_names(Signal))
PREDICTIONS: Final = Table(
    "surveillance.predictions",
    ("id", "symbol", "timeframe", "bar_start", "revision", "price", "reconstruction_error", "anomaly_score",
     "buy_probability", "hold_probability", "sell_probability", "horizon_minutes", "bundle_hash", "feature_view",
     "warmup", "t_received", "t_computed", "t_committed", "event_time", "knowledge_time", "run_id", "source",
     "input_hash", "config_hash", "runtime_hash", "model_ids", "excluded_models"),
)  # fmt: skip


def output_values(row: OutputRow, columns: tuple[str, ...]) -> list[Any]:
    """Return an output row's values for ``Table.parameters``."""
    get, json_columns = _getter(columns)
    values = list(get(row))
    for i in json_columns:
        values[i] = canonical_json(values[i])
    return values


@cache
def _getter(columns: tuple[str, ...]) -> tuple[Callable[[Any], tuple[Any, ...]], list[int]]:
    """Return a function that reads a row's attributes, and the indices of the columns in JSON."""
    names = ["score" if name == "anomaly_score" else name for name in columns]
    return attrgetter(*names), [i for i, name in enumerate(columns) if _TYPES.get(name) == "jsonb"]


def copied_values(row: OutputRow, columns: tuple[str, ...]) -> list[Any]:
    """Return an output row's values for COPY."""
    values = zip(columns, output_values(row, columns), strict=True)
    return [
        to_datetime(value) if _TYPES.get(name) == "timestamptz" and value is not None else value
        for name, value in values
    ]


def bar_values(bar: Bar) -> tuple[Any, ...]:
    """Return a bar's values for ``BAR_COLUMNS``."""
    return _BAR_VALUES(bar)


def bar_of(row: Sequence[Any]) -> Bar:
    """Return the bar of a row of ``BAR_COLUMNS``; rows older than ``market_centre`` were served with the mean."""
    values: dict[str, Any] = dict(zip(BAR_COLUMNS, row, strict=True))
    for name in _BAR_INSTANTS:
        values[name] = to_us(values[name])
    values["market_centre"] = values["market_centre"] or "mean"
    return Bar(**values)
