"""Comparison of a stored output row with the rebuilt row. No I/O.

Rows are compared field by field in the order of the contract; the first difference is reported. Fields that only record
where, when and by which release a row was made are not compared (``RECORDED``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.outputs import (
    Anomaly,
    Incident,
    OutputRow,
    Score,
    Signal,
    column_names,
    to_record,
)

TOLERANCE: Final = 1e-6
"""Largest relative or absolute difference that counts as equivalent on another runtime."""

RECORDED: Final = frozenset(
    {"schema_version", "code_version", "runtime_hash", "run_id", "t_computed", "t_committed", "t_published"}
)
"""Fields that are not compared: they record how and when the row was made, not its content."""

PROVENANCE: Final = frozenset({"config_hash", "runtime_hash", "model_ids", "excluded_models"})
"""Columns of predictions that are NULL in older rows."""

_ROUNDED: Final = frozenset({"input_hash", "summary"})
"""Fields that change with the last bit of a number; they are not compared on another runtime."""

RowKind = Literal["anomaly", "incident", "signal", "score", "prediction"]
ResultOutcome = Literal["equal", "equivalent", "different", "impossible"]

ROW_TYPES: Final[dict[RowKind, type[OutputRow]]] = {
    "anomaly": Anomaly,
    "incident": Incident,
    "signal": Signal,
    "score": Score,
    "prediction": Score,
}


class CannotReplayError(SurveillanceError, code=ErrorCode.NOT_FOUND):
    """Something that a replay needs is missing."""


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """A row from a table or a message: its fields, with instants in microseconds since the epoch.

    A ``prediction`` has only some of a score's fields.
    """

    kind: RowKind
    values: Mapping[str, Any]

    @property
    def id(self) -> str:
        return self.values["id"]

    @property
    def symbol(self) -> str:
        return self.values["symbol"]

    @property
    def bar_start(self) -> int:
        return self.values["bar_start"]

    @property
    def bar_status(self) -> str:
        return self.values.get("bar_status", "final")

    @property
    def excluded_models(self) -> tuple[str, ...] | None:
        """Members out of service; None for a prediction of an older release, which did not record them."""
        explanation = self.values.get("explanation") or {}
        named = self.values.get("excluded_models", explanation.get("excluded_models", explanation.get("models_out")))
        if named is None and self.kind == "prediction":
            return None
        return tuple(named or ())

    @property
    def is_live(self) -> bool:
        """Whether the live lane made it; only the live lane sets ``t_received``."""
        return self.values["t_received"] is not None


@dataclass(frozen=True, slots=True)
class Difference:
    """The first field that differs.

    Attributes:
        field: name of the field in the row contract, or of the damaged input.
        stored: the stored value.
        rebuilt: the rebuilt value.
        cause: description of the cause, if known.
    """

    field: str
    stored: Any
    rebuilt: Any
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The result of replaying one output. ``notes`` do not affect the outcome."""

    id: str
    outcome: ResultOutcome
    kind: RowKind | None = None
    symbol: str | None = None
    bar_start: int | None = None
    bar_status: str | None = None
    lane: Literal["live", "batch"] | None = None
    difference: Difference | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.outcome in ("equal", "equivalent")

    @property
    def summary(self) -> str:
        """Description of the outcome."""
        if self.difference is not None:
            values = (
                f"{self.difference.field}: on record {self.difference.stored!r}, rebuilt {self.difference.rebuilt!r}"
            )
            return values if self.difference.cause is None else f"{values}. {self.difference.cause}"
        if self.reason is not None:
            return self.reason
        return "byte for byte" if self.outcome == "equal" else f"equivalent within {TOLERANCE:g}"


def first_difference(stored: StoredOutput, rebuilt: OutputRow, *, same_runtime: bool) -> Difference | None:
    """Return the first field of the contract that differs, None if the rows are equal.

    Args:
        stored: the stored row.
        rebuilt: the rebuilt row.
        same_runtime: compare bit for bit; otherwise compare numbers within ``TOLERANCE`` and skip ``_ROUNDED``.
    """
    record = to_record(rebuilt)
    names = [name for name in column_names(ROW_TYPES[stored.kind]) if name in stored.values and name not in RECORDED]
    for name in (
        *(name for name in names if name != "id"),
        "id",
    ):  # the id last: it is a hash of other fields and explains nothing
        was, now = _as_json(stored.values[name]), _as_json(record[name])
        agree = _is_identical(was, now) if same_runtime else name in _ROUNDED or _is_close(was, now)
        if not agree:
            return Difference(name, was, now)
    return None


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _is_identical(was: Any, now: Any) -> bool:
    if isinstance(was, float) and isinstance(now, float):
        return was.hex() == now.hex()
    return _is_same(was, now)


def _is_same(was: Any, now: Any) -> bool:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        return was.keys() == now.keys() and all(_is_same(was[key], now[key]) for key in was)
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(_is_same, was, now))
    # In JSON, a whole number may have lost its decimal point, and zero its sign.
    return was == now


def _is_close(was: Any, now: Any) -> bool:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        return was.keys() == now.keys() and all(key in _ROUNDED or _is_close(was[key], now[key]) for key in was)
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(_is_close, was, now))
    if isinstance(was, float) and isinstance(now, int | float):
        return math.isclose(was, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return was == now
