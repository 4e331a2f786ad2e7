"""Listing and replay of dead letters.

The deduplication id of a replay is derived from the dead letter and the body. A replay is recorded before it is sent,
so repeating a command sends nothing twice. If a crash leaves it unknown whether a replay was sent, it is sent again
with the same id, which SQS recognises for five minutes and the ledger until the end of retention. On a queue with
content-based deduplication the ledger has no such id: repeat within five minutes there.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock, now
from surveillance_pipelines.contracts.errors import InvalidInputError, NotFoundError
from surveillance_pipelines.contracts.market import Refusal
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.hashing import sha256_text
from surveillance_pipelines.market.messages import read_tick
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.instruments import load_instruments, newer_than_serving_runs
from surveillance_pipelines.transports.publisher import Publisher
from surveillance_pipelines.transports.queue_routing import queue_for_symbol
from surveillance_pipelines.transports.sqs import BATCH_SIZE

Action = Literal["send", "refused", "known", "elsewhere"]

MIN_ID_LENGTH: Final = 6
"""Minimum length of a message id prefix."""
UNREADABLE_GROUP: Final = "dead-letters"
"""Message group of forced replays without a readable symbol, so that they do not block the messages of a symbol."""

_LETTERS: Final = """
    SELECT message_id, letters.queue_url, source, letters.body, code, reason, letters.received_at, replayed_at,
           replayed_as, inbox.position
    FROM ops.dead_letters AS letters LEFT JOIN ops.inbox USING (message_id)
"""
_REPLAYS: Final = """
    SELECT replays.dedup_id, replays.message_id, replays.queue_url, replays.requested_at, replays.replayed_as,
           ledger.outcome, ledger.reason
    FROM ops.dead_letter_replays AS replays LEFT JOIN ops.ledger ON ledger.message_id = replays.replayed_as
    WHERE replays.message_id = ANY(%s) ORDER BY replays.requested_at
"""
_RECORD: Final = """
    INSERT INTO ops.dead_letter_replays (dedup_id, message_id, queue_url, body, requested_at)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_SENT: Final = "UPDATE ops.dead_letter_replays SET replayed_as = %s WHERE dedup_id = %s"
_MARK: Final = "UPDATE ops.dead_letters SET replayed_at = %s, replayed_as = %s WHERE message_id = %s"

_ELSEWHERE: Final = {
    "file": "a row of a file: correct the file and `surveillance ingest` the file again; rows already stored are kept",
    "yfinance": "a row from Yahoo: fetch the day again, or `surveillance ingest` a file with the correct row",
}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused input.

    Attributes:
        queue_url: queue of the message; None for inputs of another source.
        replayed_as: MessageId of the newest replay that was sent.
        position: position in the inbox, None once dropped; orders messages of one micro-batch, received at one instant.
    """

    message_id: str
    queue_url: str | None
    source: str
    body: str
    code: str
    reason: str
    received_at: datetime
    replayed_at: datetime | None
    replayed_as: str | None
    position: int | None


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay of a dead letter.

    Attributes:
        dedup_id: deduplication id of letter and body.
        message_id: id of the dead letter.
        queue_url: target queue.
        requested_at: instant before it was sent.
        replayed_as: MessageId of the replay; None if the process ended before SQS answered.
        outcome: outcome in the ledger; None while the message is on the queue, or after its week was dropped.
        reason: reason in the ledger.
    """

    dedup_id: str
    message_id: str
    queue_url: str
    requested_at: datetime
    replayed_as: str | None
    outcome: str | None
    reason: str | None

    @property
    def summary(self) -> str:
        """Outcome of the replay as a sentence for display."""
        if self.replayed_as is None:
            return "not known to be sent"
        ended = (
            "no outcome yet" if self.outcome is None else f"{self.outcome}{f' ({self.reason})' if self.reason else ''}"
        )
        return f"{ended} as {self.replayed_as}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about the replay of one dead letter.

    Attributes:
        letter: the dead letter.
        body: body to send: the original or the repaired one.
        action: ``send``; ``refused``: it would be refused again; ``known``: it was replayed with this body before;
            ``elsewhere``: it did not come from a queue.
        summary: reason for the action, for display.
        queue_url: target queue.
        group_id: symbol of the body.
        dedup_id: deduplication id of letter and body.
    """

    letter: DeadLetter
    body: str
    action: Action
    summary: str
    queue_url: str = ""
    group_id: str = ""
    dedup_id: str = ""


def find_letters(
    connection: psycopg.Connection[Any], ids: Sequence[str], *, code: str | None = None
) -> list[DeadLetter]:
    """Return dead letters by id or id prefix, and by code, in the order received.

    A code selects only letters of a queue that were not replayed yet.

    Raises:
        NotFoundError: if an id matches no letter, or several.
    """
    found: dict[str, DeadLetter] = {}
    for wanted in ids:
        rows = connection.execute(
            f"{_LETTERS} WHERE message_id = %s OR (length(%s) >= %s AND starts_with(message_id, %s)) LIMIT 2".encode(),
            (wanted, wanted, MIN_ID_LENGTH, wanted),
        ).fetchall()
        exact = [row for row in rows if row[0] == wanted] or rows
        if len(exact) != 1:
            matches = "matches no dead letter" if not exact else "matches several dead letters"
            raise NotFoundError(
                f"expected the id of a dead letter or a prefix of at least {MIN_ID_LENGTH} characters, got {wanted!r}, "
                f"which {matches}",
                remedy="`surveillance dead-letters list` shows the ids",
            )
        found[exact[0][0]] = DeadLetter(*exact[0])
    if code is not None:
        query = f"{_LETTERS} WHERE code = %s AND source = 'sqs' AND replayed_at IS NULL".encode()
        found.update((row[0], DeadLetter(*row)) for row in connection.execute(query, (code,)))
    return sorted(found.values(), key=lambda letter: (letter.received_at, letter.position or 0, letter.message_id))


def replays_of(connection: psycopg.Connection[Any], ids: Sequence[str]) -> dict[str, list[Replay]]:
    """Return the replays of each dead letter with their ledger outcomes, oldest first."""
    replays: dict[str, list[Replay]] = {id_: [] for id_ in ids}
    for row in connection.execute(_REPLAYS, (list(ids),)):
        replays[row[1]].append(Replay(*row))
    return replays


def judge(
    connection: psycopg.Connection[Any],
    letters: Sequence[DeadLetter],
    settings: Settings,
    queue_urls: Sequence[str],
    *,
    body: str | None = None,
    force: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> list[Verdict]:
    """Decide about the replay of each dead letter with the current decoder and instruments; send nothing.

    Args:
        connection: connection to PostgreSQL.
        letters: dead letters in the order to send.
        settings: settings; ``UNKNOWN_SYMBOLS`` and ``SYMBOLS`` are used.
        queue_urls: input queues in the order of SQS_QUEUE_URL.
        body: repaired body of a single letter.
        force: also send messages that would be refused again.
        clock: clock; later timestamps in a body are refused.

    Raises:
        InvalidInputError: if a repaired body is given and the number of letters is not one.
    """
    if body is not None and len(letters) != 1:
        raise InvalidInputError(
            f"expected one dead letter with a repaired body, got {len(letters)}", remedy="replay them one by one"
        )
    registered = load_instruments(connection)
    disabled = {row.symbol for row in registered if not row.active}
    known = ({row.symbol for row in registered} | set(settings.symbols)) - disabled
    instruments = None if settings.unknown_symbols == "register" else known
    replays = replays_of(connection, [letter.message_id for letter in letters])
    received_at = clock.now_us()
    verdicts = [
        _verdict(
            letter, letter.body if body is None else body, replays[letter.message_id], instruments, queue_urls,
            received_at=received_at, force=force,
        )
        for letter in letters
    ]  # fmt: skip
    if force or instruments is None:
        return verdicts
    early = newer_than_serving_runs(connection) - set(settings.symbols)
    return [_not_before_next_run(verdict, early, settings) for verdict in verdicts]


def send(
    connection: psycopg.Connection[Any],
    verdicts: Sequence[Verdict],
    queue: Callable[[str], Publisher],
    *,
    clock: Clock = SYSTEM_CLOCK,
) -> dict[str, str]:
    """Send the messages of the verdicts with the action ``send``; return letter → MessageId of its replay.

    Args:
        connection: connection in autocommit mode: a replay must be recorded before it is sent.
        verdicts: verdicts of ``judge``.
        queue: returns the client of a queue URL.
        clock: clock for the recorded instants.

    Raises:
        QueueError: if SQS did not accept all messages; a repetition sends the missing ones.
    """
    if not connection.autocommit:
        raise ValueError("expected a connection in autocommit mode: a replay must be recorded before it is sent")
    sent: dict[str, str] = {}
    for queue_url, batch in _batches([verdict for verdict in verdicts if verdict.action == "send"]):
        instant = now(clock)
        with connection.transaction():
            for row in batch:
                values = (row.dedup_id, row.letter.message_id, queue_url, row.body, instant)
                connection.execute(_RECORD, values)
        ids = queue(queue_url).send([SendEntry(row.body, row.group_id, row.dedup_id) for row in batch])
        with connection.transaction():
            for row, message_id in zip(batch, ids, strict=True):
                connection.execute(_SENT, (message_id, row.dedup_id))
                connection.execute(_MARK, (now(clock), message_id, row.letter.message_id))
                sent[row.letter.message_id] = message_id
    return sent


@dataclass(frozen=True, slots=True)
class Replayed:
    """Result of a request to replay dead letters.

    Attributes:
        verdicts: one verdict per dead letter.
        sent: id of a dead letter → MessageId of its replay.
    """

    verdicts: tuple[Verdict, ...]
    sent: dict[str, str]

    @property
    def unsent(self) -> list[Verdict]:
        """Verdicts on the dead letters that cannot be sent."""
        return [verdict for verdict in self.verdicts if verdict.action in ("refused", "elsewhere")]


def replay(
    stores: Stores,
    ids: Sequence[str],
    *,
    code: str | None = None,
    body: str | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Replayed:
    """Put dead letters back on their queue, unchanged or repaired, except those that would be refused again.

    Args:
        stores: database and queues.
        ids: ids of dead letters or unique prefixes.
        code: also replay all letters with this refusal code that were not replayed yet.
        body: repaired body of a single dead letter.
        force: also send messages that would be refused again.
        dry_run: judge the letters, send nothing.

    Raises:
        NotFoundError: if an id matches no dead letter, or several.
        InvalidInputError: if neither ids nor a code are given, or a repaired body and not exactly one dead letter.
    """
    if not ids and code is None:
        raise InvalidInputError(
            "expected ids of dead letters or a refusal code, got neither",
            remedy="`surveillance dead-letters list` shows both",
        )
    with stores.connect(autocommit=True) as connection:
        found = find_letters(connection, ids, code=code)
        queue_urls, clock = stores.endpoints.queue_urls, stores.clock
        verdicts = judge(connection, found, stores.settings, queue_urls, body=body, force=force, clock=clock)
        sent = {} if dry_run else send(connection, verdicts, stores.queue, clock=clock)
    return Replayed(tuple(verdicts), sent)


def counts_by_reason(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return source, code, rows, replayed rows and last instant of the refused inputs, most frequent first."""
    return connection.execute(
        "SELECT source, code, count(*), count(replayed_at), max(received_at) FROM ops.dead_letters "
        "GROUP BY 1, 2 ORDER BY 3 DESC"
    ).fetchall()


def newest(connection: psycopg.Connection[Any], limit: int, *, code: str | None = None) -> list[tuple[Any, ...]]:
    """Return id, instant, source, code and reason of the newest refused inputs, optionally only of one code."""
    return connection.execute(
        "SELECT message_id, received_at, source, code, reason FROM ops.dead_letters "
        "WHERE %(code)s::text IS NULL OR code = %(code)s ORDER BY received_at DESC LIMIT %(limit)s",
        {"code": code, "limit": limit},
    ).fetchall()


def dedup_id(message_id: str, body: str) -> str:
    """Return the deduplication id of a replay; it depends only on the dead letter and the body."""
    return sha256_text(f"replay\n{message_id}\n{body}")


def _verdict(
    letter: DeadLetter,
    body: str,
    earlier: Sequence[Replay],
    instruments: Container[str] | None,
    queue_urls: Sequence[str],
    *,
    received_at: int,
    force: bool,
) -> Verdict:
    if letter.queue_url is None:
        summary = _ELSEWHERE.get(
            letter.source, f"not a queue message: its source is {letter.source}; ingest it from there again"
        )
        return Verdict(letter, body, "elsewhere", summary)
    id_ = dedup_id(letter.message_id, body)
    verdict = Verdict(letter, body, "send", "", letter.queue_url, UNREADABLE_GROUP, id_)
    before = next((replay for replay in earlier if replay.dedup_id == id_ and replay.replayed_as is not None), None)
    if before is not None:
        again = f"; it was refused again: replay {before.replayed_as}" if before.outcome == "dead" else ""
        return replace(verdict, action="known", summary=f"replayed with this body before: {before.summary}{again}")
    tick = read_tick(body, sent_at=received_at, instruments=instruments)
    if isinstance(tick, Refusal):
        reason = f"{tick.code}: {tick.reason}"
        if force:
            return replace(verdict, summary=f"forced; {reason}")
        return replace(verdict, action="refused", summary=reason)
    target = queue_for_symbol(tick.symbol, queue_urls)
    summary = f"{tick.symbol}" if target == letter.queue_url else f"{tick.symbol}, to the queue of that symbol"
    return replace(verdict, summary=summary, queue_url=target, group_id=tick.symbol)


def _not_before_next_run(verdict: Verdict, early: Container[str], settings: Settings) -> Verdict:
    """Refuse to send a symbol that the run that serves now does not know."""
    if verdict.action != "send" or verdict.group_id not in early:
        return verdict
    summary = (
        f"the run that serves now started before {verdict.group_id} was registered and would refuse it: repeat in "
        f"{settings.drain_window_seconds:.0f} s, when it has ended"
    )
    return replace(verdict, action="refused", summary=summary)


def _batches(verdicts: Sequence[Verdict]) -> Iterator[tuple[str, list[Verdict]]]:
    """Split verdicts into send batches per queue, in order and without repeated deduplication ids."""
    by_queue: dict[str, dict[str, Verdict]] = {}
    for verdict in verdicts:
        by_queue.setdefault(verdict.queue_url, {})[verdict.dedup_id] = verdict
    for queue_url, rows in by_queue.items():
        listed = list(rows.values())
        for start in range(0, len(listed), BATCH_SIZE):
            yield queue_url, listed[start : start + BATCH_SIZE]
