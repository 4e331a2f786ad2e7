"""Conservation: the messages of a producer against the tables of the live lane and the rows read by a consumer."""

import hashlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from benchmarks.live_lane import Lane
from benchmarks.traffic import answered_id
from benchmarks.waiting_messages import Planned
from surveillance_pipelines.clock import to_us
from surveillance_pipelines.transports.sqs import QueueClient

OUTCOMES: Final = ("scored", "late", "dead", "duplicate")


class ReceivedRow(NamedTuple):
    """A row read from the output queue; instants in microseconds, except ``bar_start``, which is as in the message.

    ``answers`` is the id of the input message whose score the row is; None for closed bars and alerts. ``closes`` says
    whether the row is the score of a closed bar.
    """

    id: str
    group: str
    answers: str | None
    closes: bool
    symbol: str
    bar_start: str
    t_committed: int
    t_published: int
    received_at: int


class OutputReader:
    """Reads and deletes the messages of an output queue in a thread."""

    def __init__(self, queue: QueueClient) -> None:
        self._queue: Final = queue
        self.rows: Final[list[ReceivedRow]] = []
        self.closed_bars = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Read for a ``with`` block, and afterwards until the queue is empty."""
        ended = threading.Event()
        thread = threading.Thread(target=self._read, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _read(self, ended: threading.Event) -> None:
        while True:
            last = ended.is_set()
            batch = self._queue.receive(10, wait_seconds=1, visibility_seconds=30)
            for message in batch:
                self.rows.append(row := received_row(message.body, message.group_id, message.received_at))
                self.closed_bars += row.closes
            if batch:
                self._queue.delete([message.receipt_handle for message in batch])
            elif last:
                return


def received_row(body: str, group: str, received_at: int) -> ReceivedRow:
    """Return the parts of an output message that are checked."""
    row = json.loads(body)
    return ReceivedRow(
        row["id"], group, answered_id(row), row["type"] == "score" and row["bar_status"] == "final", row["symbol"],
        row["bar_start"], _instant(row["t_committed"]), _instant(row["t_published"]), received_at,
    )  # fmt: skip


def _instant(text: str) -> int:
    return to_us(datetime.fromisoformat(text))


class DeadLetterRow(NamedTuple):
    """A row of ``ops.dead_letters``, with the MD5 hash of its body."""

    message_id: str
    code: str
    reason: str
    body_md5: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What the live lane has stored.

    Attributes:
        ledger: message id and outcome.
        dead_letters: all rows.
        outbox: row id and message group, in the order of publication.
    """

    ledger: Sequence[tuple[str, str]]
    dead_letters: Sequence[DeadLetterRow]
    outbox: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, lane: Lane) -> "Stored":
        dead = lane.query("SELECT message_id, code, reason, md5(body) FROM ops.dead_letters")
        return cls(
            ledger=[(id_, outcome) for id_, outcome in lane.query("SELECT message_id, outcome FROM ops.ledger")],
            dead_letters=[DeadLetterRow(*row) for row in dead],
            outbox=[(id_, group) for id_, group in lane.query("SELECT id, group_id FROM ops.outbox ORDER BY position")],
        )

    def outcomes(self) -> dict[str, int]:
        """Return the number of messages by outcome."""
        counts = Counter(outcome for _, outcome in self.ledger)
        return {name: counts[name] for name in OUTCOMES}


def violations(sent: Mapping[str, Planned], stored: Stored, rows: Sequence[ReceivedRow]) -> dict[str, int]:
    """Return the number of violations of each promise; all are 0 if nothing was lost, repeated or changed.

    Args:
        sent: message id → message, of all messages that the queues accepted.
        stored: the tables.
        rows: read from the output queue, in the order of their arrival.
    """
    outcomes = dict(stored.ledger)
    return {
        "messages_lost": len(sent.keys() - outcomes.keys()),
        "messages_with_two_outcomes": len(stored.ledger) - len(outcomes),
        "messages_invented": len(outcomes.keys() - sent.keys()),
        "messages_with_another_outcome": sum(
            outcomes.get(id_, planned.outcome) != planned.outcome for id_, planned in sent.items()
        ),
        **_dead_letters(sent, stored.dead_letters),
        **_rows(sent, stored.outbox, rows),
    }


def _dead_letters(sent: Mapping[str, Planned], found: Sequence[DeadLetterRow]) -> dict[str, int]:
    wanted = {id_: planned for id_, planned in sent.items() if planned.outcome == "dead"}
    known = [row for row in found if row.message_id in wanted]
    return {
        "dead_letters_lost": len(wanted.keys() - {row.message_id for row in known}),
        "dead_letters_invented": len(found) - len(known),
        "dead_letters_with_another_reason": sum(
            row.code != wanted[row.message_id].code or not row.reason for row in known
        ),
        "dead_letters_with_another_body": sum(_md5(wanted[row.message_id]) != row.body_md5 for row in known),
    }


def _md5(planned: Planned) -> str:
    return hashlib.md5(planned.entry.body.encode(), usedforsecurity=False).hexdigest()


def _rows(
    sent: Mapping[str, Planned], outbox: Sequence[tuple[str, str]], rows: Sequence[ReceivedRow]
) -> dict[str, int]:
    wanted = {id_ for id_, planned in sent.items() if planned.outcome == "scored"}
    bars = {planned.bar for planned in sent.values() if planned.outcome == "scored"}
    answers = Counter(row.answers for row in rows if row.answers is not None)
    closed = Counter((row.symbol, row.bar_start) for row in rows if row.closes)
    stored, arrived = {id_ for id_, _ in outbox}, {row.id for row in rows}
    return {
        "scores_lost": len(wanted - answers.keys()),
        "scores_invented": len(answers.keys() - wanted),
        "scores_repeated": answers.total() - len(answers),
        "closed_bars_lost": len(bars - closed.keys()),
        "closed_bars_invented": len(closed.keys() - bars),
        "closed_bars_repeated": closed.total() - len(closed),
        "rows_never_arrived": len(stored - arrived),
        "rows_invented": len(arrived - stored),
        "rows_repeated": len(rows) - len(arrived),
        "symbols_out_of_order": _out_of_order(outbox, rows),
    }


def _out_of_order(outbox: Sequence[tuple[str, str]], rows: Sequence[ReceivedRow]) -> int:
    """Return the number of groups whose rows arrived in another order than that of publication, without repeats."""
    positions = {id_: position for position, (id_, _) in enumerate(outbox)}
    arrived: dict[str, list[int]] = defaultdict(list)
    for id_, group in {row.id: row.group for row in rows}.items():
        if id_ in positions:
            arrived[group].append(positions[id_])
    return sum(found != sorted(found) for found in arrived.values())
