"""Whether a stored output row is what its inputs give again: the comparison and its words. Pure.

Two rows are compared field by field in the order of the contract, and the first that differs is named. What only
records where, when and by which release a row was made is left aside (``RECORDED``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.contracts.outputs import Anomaly, OutputRow, Score, Signal, column_names, to_record

TOLERANCE: Final = 1e-6
"""Largest relative difference, on another runtime, that still counts as equivalent."""

RECORDED: Final = frozenset(
    {"schema_version", "code_version", "runtime_hash", "run_id", "t_computed", "t_committed", "t_published"}
)
"""Fields that a replay takes as they are: they say who made the row and when, not what it says."""

PROVENANCE: Final = frozenset({"config_hash", "runtime_hash", "model_ids", "excluded_models"})
"""Columns of predictions that older rows lack."""

_ROUNDED: Final = frozenset({"input_hash", "summary"})
"""Change with the last bit of a number, so that another runtime says nothing about them."""

RowKind = Literal["anomaly", "signal", "score", "prediction"]
ResultOutcome = Literal["equal", "equivalent", "different", "impossible"]

ROW_TYPES: Final[dict[RowKind, type[OutputRow]]] = {
    "anomaly": Anomaly,
    "signal": Signal,
    "score": Score,
    "prediction": Score,
}


class CannotReplayError(SurveillanceError, code=ErrorCode.NOT_FOUND):
    """Something that a replay needs is not there, or no longer; the text says what, and what to do."""


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """A row as found in a table or in a message: the fields it has, instants in microseconds since the epoch.

    A ``prediction`` has some of a score's fields only.
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
        """Members that were not asked; None for a prediction that is older than the record of it."""
        explanation = self.values.get("explanation") or {}
        named = self.values.get("excluded_models", explanation.get("excluded_models", explanation.get("models_out")))
        if named is None and self.kind == "prediction":
            return None
        return tuple(named or ())

    @property
    def is_live(self) -> bool:
        """Whether the live lane made it: only that knows when its cause was received."""
        return self.values["t_received"] is not None


@dataclass(frozen=True, slots=True)
class Difference:
    """The first field that differs.

    Attributes:
        field: its name in the row contract, or the input that is damaged.
        stored: its value on record.
        rebuilt: its value now.
        cause: where the two part, in words, as far as the books tell.
    """

    field: str
    stored: Any
    rebuilt: Any
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What the replay of one output came to. ``notes`` are worth knowing and change nothing."""

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
    def said(self) -> str:
        """The outcome in words."""
        if self.difference is not None:
            found = (
                f"{self.difference.field}: on record {self.difference.stored!r}, rebuilt {self.difference.rebuilt!r}"
            )
            return found if self.difference.cause is None else f"{found}. {self.difference.cause}"
        if self.reason is not None:
            return self.reason
        return "byte for byte" if self.outcome == "equal" else f"equivalent within {TOLERANCE:g}"


def first_difference(stored: StoredOutput, rebuilt: OutputRow, *, same_runtime: bool) -> Difference | None:
    """Return the first field of the contract that differs, None where the rows agree.

    Args:
        stored: the row on record.
        rebuilt: the row made again.
        same_runtime: compare bit for bit; otherwise numbers within ``TOLERANCE``, and no hash of numbers.
    """
    record = to_record(rebuilt)
    names = [name for name in column_names(ROW_TYPES[stored.kind]) if name in stored.values and name not in RECORDED]
    for name in (*(name for name in names if name != "id"), "id"):  # the id sums up the others and explains nothing
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
    # Inside JSON a whole number may have lost its point, and zero its sign.
    return was == now


def _is_close(was: Any, now: Any) -> bool:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        return was.keys() == now.keys() and all(key in _ROUNDED or _is_close(was[key], now[key]) for key in was)
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(_is_close, was, now))
    if isinstance(was, float) and isinstance(now, int | float):
        return math.isclose(was, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return was == now
