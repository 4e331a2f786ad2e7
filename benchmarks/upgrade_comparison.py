"""Comparison of the rows, messages and tables of two releases. Pure.

Two runs over the same input differ in the instants of receiving and committing, and in SQS MessageIds. Those instants
are left out. Each MessageId is replaced by the deduplication id that the producer gave the message, and each row id
that was made of a MessageId by the id that the deduplication id gives. Everything else is compared bit for bit.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

Row = Mapping[str, Any]

ROW_TYPES: Final = frozenset({"anomaly", "signal", "score"})
"""Types of the row contract, as messages name them."""

MADE_BY: Final = frozenset({"schema_version", "code_version", "runtime_hash", "run_id"})
"""Fields that tell which release and process made a row."""
WALL_CLOCK: Final = frozenset(
    {"knowledge_time", "t_received", "t_computed", "t_committed", "t_published", "committed_at"}
)
"""Instants at which a run received, scored, committed or sent something."""
LEFT_OUT: Final = MADE_BY | WALL_CLOCK
MESSAGE_IDS: Final = frozenset({"source_message_id", "correlation_id"})

_ABOUT: Final = ("symbol", "bar_start", "bar_status", "kind", "alert_status")
"""Fields that tell a reader which row a difference is about."""
SHOWN: Final = 5
"""Differences that a check describes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must be the same.

    Attributes:
        name: what was compared.
        compared: how many rows, messages or groups.
        equal: how many of them are the same.
        differences: descriptions of the first few.
        notes: other observations, which do not change the verdict.
    """

    name: str
    compared: int
    equal: int
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Say whether all are equal; comparing nothing proves nothing."""
        return 0 < self.compared == self.equal and not self.differences


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two values differ; ``path`` leads to it and is empty for the values themselves."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path or 'value'}: old {_shown(self.old)}, new {_shown(self.new)}"


@dataclass(slots=True)
class _Findings:
    equal: int = 0
    differences: list[str] = field(default_factory=list)

    def check(self, name: str, compared: int, notes: Iterable[str] = ()) -> Check:
        return Check(
            name=name,
            compared=compared,
            equal=self.equal,
            differences=tuple(self.differences[:SHOWN]),
            notes=tuple(notes),
        )


def plain(value: Any) -> Any:
    """Return a database value in its JSON form; bytes become their sha256, numbers stay as they are."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date | UUID | Decimal):
        return str(value)
    if isinstance(value, bytes | memoryview):
        return f"sha256:{hashlib.sha256(value).hexdigest()}"
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def first_difference(old: Any, new: Any, path: str = "") -> Difference | None:
    """Return the first difference of two plain values; numbers must have the same type and the same bits."""
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys():
            return Difference(_joined(path, "keys"), sorted(old), sorted(new))
        found = (first_difference(old[name], new[name], _joined(path, name)) for name in old)
        return next((difference for difference in found if difference is not None), None)
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return Difference(_joined(path, "length"), len(old), len(new))
        pairs = enumerate(zip(old, new, strict=True))
        found = (first_difference(was, now, f"{path}[{place}]") for place, (was, now) in pairs)
        return next((difference for difference in found if difference is not None), None)
    same = type(old) is type(new) and (old.hex() == new.hex() if isinstance(old, float) else old == new)
    return None if same else Difference(path, old, new)


def row_id(row: Row, row_type: str, trigger: str | None) -> str:
    """Return the id of a row by the published recipe, computed independently of the platform's code.

    Args:
        row: plain.
        row_type: type in the row contract.
        trigger: id of the message that caused a provisional row; None for a final one.
    """
    names = ("tenant", "strategy", "symbol", "timeframe")
    hashes = ("feature_view", "bundle_hash", "config_hash")
    kind = "score" if row_type == "score" else row["kind"]
    return _sha256(
        [row_type, kind, *(row[name] for name in names), _microseconds(row["bar_start"]), row["revision"],
         row["bar_status"], trigger, *(row[name] for name in hashes)]
    )  # fmt: skip


def alert_id(row: Row) -> str:
    """Return the id of an anomaly's alert by the published recipe."""
    bar_start = _microseconds(row["bar_start"])
    return _sha256(["alert", row["tenant"], row["symbol"], row["timeframe"], bar_start, row["kind"]])


def normalised(row: Row, row_type: str, dedup_ids: Mapping[str, str]) -> dict[str, Any]:
    """Return an output row without the fields that differ between any two runs, with the producer's message ids.

    An id that does not follow from the row's own fields is marked, so that it equals no other.

    Args:
        row: row of a table, or a message.
        row_type: type in the row contract.
        dedup_ids: SQS MessageId → deduplication id of the producer.
    """
    values = plain(row)
    kept = {name: value for name, value in values.items() if name not in LEFT_OUT}
    for name in MESSAGE_IDS & kept.keys():
        kept[name] = dedup_ids.get(kept[name], kept[name])
    # The table of predictions has only some of the fields; a new type of message has a recipe of its own.
    if row_type in ROW_TYPES and "bar_status" in values and "tenant" in values:
        trigger = values["correlation_id"] if values["bar_status"] == "provisional" else None
        is_right = row_id(values, row_type, trigger) == values["id"]
        mapped = None if trigger is None else dedup_ids.get(trigger, trigger)
        kept["id"] = row_id(values, row_type, mapped) if is_right else f"not by the recipe: {values['id']}"
    return kept


def compare_rows(name: str, old: Sequence[Row], new: Sequence[Row], *, key: Sequence[str] = ("id",)) -> Check:
    """Compare rows by a key, field by field, oldest bar first; fields that only the new release has are noted.

    Args:
        name: name of the check.
        old: plain rows of the old release.
        new: plain rows of the new release.
        key: fields that identify a row.
    """
    findings = _Findings()
    theirs, ours = (_by_key(rows, key, findings.differences) for rows in (old, new))
    added: set[str] = set()
    every = {**ours, **theirs}
    for place, row in sorted(every.items(), key=lambda item: (_instants(item[1]), item[0])):
        was, now, named = theirs.get(place), ours.get(place), _named(row, key)
        if was is None or now is None:
            findings.differences.append(f"{named}: only in the {'new' if was is None else 'old'} release")
            continue
        added |= now.keys() - was.keys()
        if absent := sorted(was.keys() - now.keys()):
            findings.differences.append(f"{named}: {', '.join(absent)} missing in the new release")
        elif difference := first_difference(dict(was), {shared: now[shared] for shared in was}):
            findings.differences.append(f"{named}: {difference}")
        else:
            findings.equal += 1
    notes = [f"fields of the new release only: {', '.join(sorted(added))}"] if added else []
    return findings.check(name, len(every), notes)


def compare_sequences(name: str, old: Mapping[str, Sequence[Any]], new: Mapping[str, Sequence[Any]]) -> Check:
    """Compare the values of each group, in order."""
    findings, compared = _Findings(), 0
    for group in sorted(old.keys() | new.keys()):
        was, now = list(old.get(group, ())), list(new.get(group, ()))
        compared += max(len(was), len(now))
        differs = [place for place, pair in enumerate(zip(was, now, strict=False)) if pair[0] != pair[1]]
        findings.equal += min(len(was), len(now)) - len(differs)
        if differs:
            place = differs[0]
            findings.differences.append(
                f"{group}: number {place + 1}: old {_shown(was[place])}, new {_shown(now[place])}"
            )
        elif len(was) != len(now):
            findings.differences.append(f"{group}: old {len(was)} values, new {len(now)}")
    return findings.check(name, compared)


def compare_tables(
    name: str, old: Mapping[str, Sequence[Row]], new: Mapping[str, Sequence[Row]], *, may_go: frozenset[str]
) -> Check:
    """Compare whole tables as sets of rows, in the columns that both have.

    Args:
        name: name of the check.
        old: table → rows before.
        new: table → rows after.
        may_go: tables that may be missing afterwards.
    """
    findings, compared, notes = _Findings(), 0, list[str]()
    for table, rows in old.items():
        if table not in new:
            (notes if table in may_go else findings.differences).append(f"{table}: not in the new release")
            compared += table not in may_go
            continue
        dropped = sorted((rows[0].keys() - new[table][0].keys()) if rows and new[table] else ())
        if dropped:
            notes.append(f"{table}: the new release has no {', '.join(dropped)}")
        columns = rows[0].keys() - set(dropped) if rows else set[str]()
        was, now = (Counter(_text(row, columns) for row in side) for side in (rows, new[table]))
        compared += max(was.total(), now.total())
        findings.equal += (was & now).total()
        findings.differences += _unmatched(table, was - now, now - was)
    return findings.check(name, compared, notes)


def by_group(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    """Return values by group, each group in order."""
    found: dict[str, list[Any]] = defaultdict(list)
    for group, value in pairs:
        found[group].append(value)
    return dict(found)


def _unmatched(table: str, missing: Counter[str], extra: Counter[str]) -> list[str]:
    """Describe the rows that only one side has; each missing row is compared with the most similar extra row."""
    found = []
    candidates = [json.loads(text) for text in extra]
    for text in list(missing)[:SHOWN]:
        row = json.loads(text)
        nearest = max(candidates, key=lambda other: sum(other.get(name) == row[name] for name in row), default=None)
        difference = None if nearest is None else first_difference(row, nearest)
        found.append(f"{table}: {difference or f'missing row {_shown(row)}'}")
    if not missing:
        found += [f"{table}: extra row {_shown(row)}" for row in candidates[:SHOWN]]
    return found


def _by_key(rows: Sequence[Row], key: Sequence[str], differences: list[str]) -> dict[tuple[str, ...], Row]:
    found: dict[tuple[str, ...], Row] = {}
    for row in rows:
        place = tuple(str(row[name]) for name in key)
        if place in found:
            differences.append(f"{_named(row, key)}: twice")
        found[place] = row
    return found


def _text(row: Row, columns: Iterable[str]) -> str:
    return json.dumps({name: plain(row[name]) for name in columns}, sort_keys=True)


def _sha256(values: list[Any]) -> str:
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _microseconds(instant: str) -> int:
    since = datetime.fromisoformat(instant) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _instants(row: Row) -> tuple[str, str]:
    return str(row.get("bar_start", "")), str(row.get("event_time", ""))


def _named(row: Row, key: Sequence[str]) -> str:
    """Return the key of a row, shortened, and what else tells a reader which row it is."""
    named = [f"{name} {str(row[name])[:20]}" for name in key]
    about = [str(row[name]) for name in _ABOUT if row.get(name) is not None and name not in key]
    return ", ".join(named) + (f" ({' '.join(about)})" if about else "")


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:159]}…"
