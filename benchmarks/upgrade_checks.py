"""The checks of the upgrade promise, over what both releases wrote from the same home and the same messages. Pure."""

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks.upgrade_comparison import (
    SHOWN,
    Check,
    Row,
    alert_id,
    by_group,
    compare_rows,
    compare_sequences,
    compare_tables,
    normalised,
    plain,
    row_id,
)
from benchmarks.upgrade_home import Consumed
from benchmarks.upgrade_release import REPLACED_TABLES

Tables = Mapping[str, Sequence[Row]]

OUTPUTS: Final = {
    "surveillance.anomalies": "anomaly",
    "surveillance.signals": "signal",
    "surveillance.predictions": "score",
}
"""Table → type of its rows."""
BAR_KEY: Final = ("symbol", "bar_start", "revision")
_PREDICTION: Final = {"tenant": "default", "strategy": "surveillance", "bar_status": "final"}
"""What every row of the table of predictions has without a column for it."""
_SETTLED: Final = frozenset({"outcome_return", "outcome_direction", "outcome_at"})
"""Columns of predictions that a backfill fills in once the horizon is over."""


@dataclass(frozen=True)
class Continued:
    """Everything that one release wrote between the upgrade and the end of the feed.

    Attributes:
        champion: hash of the bundle that serves at the end.
        before: all tables after the migration, before the first message.
        after: all tables at the end.
        consumed: messages taken off the output queue since the upgrade.
    """

    champion: str
    before: Tables
    after: Tables
    consumed: Sequence[Consumed]

    def new_rows(self, table: str) -> list[Row]:
        """Return the rows of a table that this release has added, by their ids."""
        known = {row["id"] for row in self.before[table]}
        return [row for row in self.after[table] if row["id"] not in known]

    def dedup_ids(self) -> dict[str, str]:
        """Return the producer's deduplication id of each SQS MessageId."""
        return {row["message_id"]: row["dedup_id"] for row in self.after["ops.inbox"]}


def draw_outputs(tables: Tables, size: int, seed: int) -> dict[str, str]:
    """Return ids of outputs drawn at random, each with its kind; the kinds take turns until one runs out.

    A kind is a row type, a bar status and a lane. Scores of bars in progress are stored in the outbox only.
    """
    kinds: dict[str, list[str]] = {}
    for table, row_type in OUTPUTS.items():
        for row in tables[table]:
            name = row_type if "bar_status" in row else "prediction"
            lane = "live" if row["t_received"] else "batch"
            kinds.setdefault(f"{name}, {row.get('bar_status', 'final')}, {lane}", []).append(row["id"])
    for row in tables["ops.outbox"]:
        message = json.loads(row["body"])
        if (message["type"], message["bar_status"]) == ("score", "provisional"):
            kinds.setdefault("score, provisional, live", []).append(row["id"])
    source = random.Random(seed)
    shuffled = {kind: source.sample(sorted(ids), len(ids)) for kind, ids in sorted(kinds.items())}
    drawn: dict[str, str] = {}
    while len(drawn) < size and any(shuffled.values()):
        for kind, ids in shuffled.items():
            if ids and len(drawn) < size:
                drawn[ids.pop()] = kind
    return drawn


def closing_alerts(open_alerts: Sequence[str], side: Continued) -> list[Row]:
    """Return the rows that confirm or retract alerts that were open at the upgrade."""
    rows = side.after["surveillance.anomalies"]
    return [row for row in rows if row["alert_id"] in open_alerts and row["alert_status"] != "opened"]


def check_migration(old: Continued, new: Continued) -> Check:
    """Check that the migration changes no row of the old release."""
    name = "rows of all tables, before and after the migration"
    return compare_tables(name, old.before, new.before, may_go=REPLACED_TABLES)


def check_config_hashes(new: Continued) -> list[Check]:
    """Check the settings that a migration fills into old predictions: they must give each row its id.

    There is nothing to check in a release whose predictions have no ``config_hash``.
    """
    rows = [plain(row) | _PREDICTION for row in new.before["surveillance.predictions"] if "config_hash" in row]
    wrong = [row["id"] for row in rows if row_id(row, "score", None) != row["id"]]
    check = Check(
        name="config_hash of old predictions, filled in by the migration",
        compared=len(rows),
        equal=len(rows) - len(wrong),
        differences=tuple(f"prediction {id_}: its config_hash does not give its id" for id_ in wrong[:SHOWN]),
    )
    return [check] if rows else []


def check_champion(old: Continued, new: Continued) -> Check:
    """Check that the same bundle is champion and has scored every bar that the new release closed."""
    rows = new.new_rows("surveillance.predictions")
    served = [row for row in rows if row["bundle_hash"] == old.champion and not row["warmup"]]
    differences = [] if old.champion == new.champion else [f"champion: old {old.champion}, new {new.champion}"]
    wrong = Counter(row["bundle_hash"] for row in rows) - Counter(row["bundle_hash"] for row in served)
    differences += [f"{count} bars scored by {bundle}" for bundle, count in wrong.items()]
    return Check(
        name="bars closed by the new release and scored by the same champion",
        compared=len(rows),
        equal=len(served),
        differences=tuple(differences),
        notes=(f"bundle {old.champion[:12]}", _makers("old", old), _makers("new", new)),
    )


def check_open_alerts(open_alerts: Sequence[str], old: Continued, new: Continued) -> Check:
    """Check that both releases close each alert that was open at the upgrade once, and in the same way."""
    found: list[list[dict[str, Any]]] = []
    for side in (old, new):
        ids = side.dedup_ids()
        found.append([normalised(row, "anomaly", ids) for row in closing_alerts(open_alerts, side)])
    theirs, ours = found
    check = compare_rows("alerts open at the upgrade, confirmed or retracted", theirs, ours, key=("alert_id",))
    statuses = ", ".join(f"{count} {status}" for status, count in Counter(row["alert_status"] for row in ours).items())
    missing = sorted(set(open_alerts) - {row["alert_id"] for row in ours})
    differences = (*check.differences, *(f"alert {id_}: never closed by the new release" for id_ in missing))
    return replace(
        check, compared=len(open_alerts), differences=differences, notes=(statuses or "none closed", *check.notes)
    )


def check_outputs(old: Continued, new: Continued) -> list[Check]:
    """Check that every anomaly, signal, prediction and message in the outbox is equal, field by field."""
    checks = []
    for table, row_type in OUTPUTS.items():
        theirs, ours = (
            [normalised(row, row_type, side.dedup_ids()) for row in side.after[table]] for side in (old, new)
        )
        check = compare_rows(table, theirs, ours)
        made = f"{len(new.new_rows(table)):,} written by the new release"
        checks.append(replace(check, notes=(made, *check.notes)))
    theirs, ours = (_messages(side, (row["body"] for row in side.after["ops.outbox"])) for side in (old, new))
    return [*checks, compare_rows("ops.outbox, bodies", theirs, ours), _check_alert_ids(new)]


def check_inputs(old: Continued, new: Continued) -> list[Check]:
    """Check that every message has the same outcome, in the same order, and that every bar is equal."""
    outcomes, bars, letters = [], [], []
    for side in (old, new):
        ids = side.dedup_ids()
        outcome_of = {row["message_id"]: row["outcome"] for row in side.after["ops.ledger"]}
        received = sorted(side.after["ops.inbox"], key=lambda row: row["position"])
        outcomes.append({"inbox": [f"{row['dedup_id']} {outcome_of[row['message_id']]}" for row in received]})
        bars.append([normalised(row, "bar", ids) for row in side.after["ops.live_bars"]])
        dead = side.after["ops.dead_letters"]
        letters.append([{"id": ids[row["message_id"]], "code": row["code"], "body": row["body"]} for row in dead])
    counts = Counter(text.split()[1] for text in outcomes[1]["inbox"])
    check = compare_sequences("outcomes of messages, in the order of the inbox", *outcomes)
    named = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
    return [
        replace(check, notes=(named,)),
        compare_rows("ops.live_bars", *bars, key=BAR_KEY),
        compare_rows("ops.dead_letters, code and body", *letters),
    ]


def check_queue(unpublished: Sequence[str], old: Continued, new: Continued) -> list[Check]:
    """Check that a consumer gets the same messages in the same order per group, and waiting ones byte for byte."""
    waited = {row["id"] for row in old.before["ops.outbox"]} - set(unpublished)
    kept, contents, orders = [], [], []
    for side in (old, new):
        distinct = _first_of_each(side.consumed)
        kept.append(by_group((message.group, message.body) for message in distinct if message.dedup_id in waited))
        rows = _messages(side, (message.body for message in distinct))
        contents.append(rows)
        addressed = zip(distinct, rows, strict=True)
        orders.append(by_group((message.group, _address(message, row)) for message, row in addressed))
    content = compare_rows("messages that a consumer gets", *contents)
    repeats = f"{len(new.consumed) - len(contents[1])} repeats, dropped by id"
    leftover = [id_ for id_ in unpublished if id_ not in {message.dedup_id for message in new.consumed}]
    return [
        compare_sequences("messages that waited in the output queue, byte for byte", *kept),
        replace(content, notes=(repeats, *content.notes)),
        compare_sequences("order of messages in each group", *orders),
        Check(
            name="rows left in the outbox unpublished, sent by the new release",
            compared=len(unpublished),
            equal=len(unpublished) - len(leftover),
            differences=tuple(f"row {id_}: never sent" for id_ in leftover[:SHOWN]),
        ),
    ]


def check_replays(name: str, drawn: Mapping[str, str], results: Sequence[Row], size: int) -> Check:
    """Check that the replay of each output drawn is "equal", that is, byte for byte.

    Args:
        name: name of the check.
        drawn: id → kind.
        results: objects that ``surveillance replay --json`` printed.
        size: number of outputs that were asked for.
    """
    by_id = {result["id"]: result for result in results}
    outcomes = {id_: by_id.get(id_, {"outcome": "missing"}) for id_ in drawn}
    counts = Counter(result["outcome"] for result in outcomes.values())
    kinds = Counter(drawn[id_] for id_, result in outcomes.items() if result["outcome"] == "equal")
    differences = [
        f"{drawn[id_]} {id_}: {json.dumps(result)[:400]}"
        for id_, result in outcomes.items()
        if result["outcome"] != "equal"
    ]
    return Check(
        name=name,
        compared=size,
        equal=counts["equal"],
        differences=tuple(differences[:SHOWN]),
        notes=(
            ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()),
            *(f"equal: {count} of {kind}" for kind, count in sorted(kinds.items())),
        ),
    )


def check_backfill(before: Tables, after: Tables) -> Check:
    """Check that a backfill of the served day changes no row and adds none."""
    theirs, ours = (
        {
            table: [{name: value for name, value in row.items() if name not in _SETTLED} for row in tables[table]]
            for table in OUTPUTS
        }
        for tables in (before, after)
    )
    return compare_tables("rows before and after a backfill of the served day", theirs, ours, may_go=frozenset())


def _makers(name: str, side: Continued) -> str:
    """Return the versions and hashes that a release wrote into its rows."""
    rows = side.new_rows("surveillance.anomalies")
    fields = ("schema_version", "code_version", "runtime_hash")
    values = [f"{field} {', '.join(sorted({str(row[field])[:20] for row in rows}))}" for field in fields if rows]
    return f"anomalies of the {name} release: {'; '.join(values) or 'none'}"


def _check_alert_ids(new: Continued) -> Check:
    rows = [plain(row) for row in new.after["surveillance.anomalies"]]
    wrong = [row["alert_id"] for row in rows if alert_id(row) != row["alert_id"]]
    return Check(
        name="alert_ids made by the published recipe",
        compared=len(rows),
        equal=len(rows) - len(wrong),
        differences=tuple(f"alert {id_}: not by the recipe" for id_ in wrong[:SHOWN]),
    )


def _messages(side: Continued, bodies: Iterable[str]) -> list[dict[str, Any]]:
    ids = side.dedup_ids()
    return [normalised(message, message["type"], ids) for message in map(json.loads, bodies)]


def _first_of_each(messages: Iterable[Consumed]) -> list[Consumed]:
    """Return the messages without repeats: delivery is at least once, and a consumer drops repeats by id."""
    known: set[str] = set()
    return [found for found in messages if not (found.dedup_id in known or known.add(found.dedup_id))]


def _address(message: Consumed, row: Row) -> str:
    """Return the normalised id of a message, marked if its group or deduplication id breaks the contract."""
    body = json.loads(message.body)
    if (message.group, message.dedup_id) != (body["symbol"], body["id"]):
        return f"{row['id']} under group {message.group}, deduplication id {message.dedup_id}"
    return row["id"]
