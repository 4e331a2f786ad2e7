"""Dead letters of the queue: what would become of them now, and the way back onto their queue.

A replay has a deduplication id made of letter and body. It is on record before it is sent, so a repeated command sends
nothing twice; where a crash leaves open whether it was sent, SQS and then the ledger know the id.
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
from surveillance_pipelines.stores.instruments import load_instruments
from surveillance_pipelines.transports.publisher import Publisher
from surveillance_pipelines.transports.sqs import BATCH_SIZE, queue_for_symbol

Action = Literal["send", "refused", "known", "elsewhere"]

SHORTEST_ID: Final = 6
"""Characters of a message id that a person may give instead of all."""
UNREADABLE_GROUP: Final = "dead-letters"
"""Message group of a body without a symbol that is sent by force: it must not stop a symbol's messages."""

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
_INTEND: Final = """
    INSERT INTO ops.dead_letter_replays (dedup_id, message_id, queue_url, body, requested_at)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_SENT: Final = "UPDATE ops.dead_letter_replays SET replayed_as = %s WHERE dedup_id = %s"
_MARK: Final = "UPDATE ops.dead_letters SET replayed_at = %s, replayed_as = %s WHERE message_id = %s"

_ELSEWHERE: Final = {
    "file": "a row of a file: correct it there and `surveillance ingest` the file again; what landed is not doubled",
    "yfinance": "a row from Yahoo: the next fetch asks for it again, or `surveillance ingest` a file that has it right",
}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused input.

    Attributes:
        queue_url: of the queue it came from; None where it came from none.
        replayed_as: MessageId of the newest replay that was sent.
        position: in the inbox, while that holds it: letters of one micro-batch were received at one instant.
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
    """One way back that was tried.

    Attributes:
        dedup_id: of letter and body.
        message_id: of the letter.
        queue_url: where it was sent.
        requested_at: before it was sent.
        replayed_as: its MessageId; None if the process ended before SQS had answered.
        outcome: of the ledger; None while it waits on the queue, or once its week is dropped.
        reason: the ledger's, beside the outcome.
    """

    dedup_id: str
    message_id: str
    queue_url: str
    requested_at: datetime
    replayed_as: str | None
    outcome: str | None
    reason: str | None

    @property
    def said(self) -> str:
        """Return what became of it, in words."""
        if self.replayed_as is None:
            return "not known to be sent"
        ended = (
            "no outcome yet" if self.outcome is None else f"{self.outcome}{f' ({self.reason})' if self.reason else ''}"
        )
        return f"{ended} as {self.replayed_as}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replay of one letter comes to.

    Attributes:
        letter: the letter.
        body: what would be sent: its own body, or the repaired one.
        action: send it; it would be refused again; it was replayed with this body before; it is no message of a queue.
        said: why, in words.
        queue_url: where it goes.
        group_id: the symbol of the body.
        dedup_id: of letter and body.
    """

    letter: DeadLetter
    body: str
    action: Action
    said: str
    queue_url: str = ""
    group_id: str = ""
    dedup_id: str = ""


def find_letters(
    connection: psycopg.Connection[Any], ids: Sequence[str], *, code: str | None = None
) -> list[DeadLetter]:
    """Return letters in the order received: those with the ids, which may be cut short, and those with a code.

    By code only letters of a queue are found, and only those not replayed yet.

    Raises:
        NotFoundError: if an id is of no letter, or of several.
    """
    found: dict[str, DeadLetter] = {}
    for wanted in ids:
        rows = connection.execute(
            f"{_LETTERS} WHERE message_id = %s OR (length(%s) >= %s AND starts_with(message_id, %s)) LIMIT 2".encode(),
            (wanted, wanted, SHORTEST_ID, wanted),
        ).fetchall()
        exact = [row for row in rows if row[0] == wanted] or rows
        if len(exact) != 1:
            came = "no letter has" if not exact else "several have"
            raise NotFoundError(
                f"expected the id of a dead letter, {came} {wanted!r}", remedy="see `surveillance dead-letters list`"
            )
        found[exact[0][0]] = DeadLetter(*exact[0])
    if code is not None:
        query = f"{_LETTERS} WHERE code = %s AND source = 'sqs' AND replayed_at IS NULL".encode()
        found.update((row[0], DeadLetter(*row)) for row in connection.execute(query, (code,)))
    return sorted(found.values(), key=lambda letter: (letter.received_at, letter.position or 0, letter.message_id))


def replays_of(connection: psycopg.Connection[Any], ids: Sequence[str]) -> dict[str, list[Replay]]:
    """Return the earlier replays of letters, oldest first, with what the ledger says of them."""
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
    """Say what a replay of each letter comes to, by the decoder and the instruments of now; sends nothing.

    Args:
        connection: to PostgreSQL.
        letters: in the order to send.
        settings: of the platform; ``UNKNOWN_SYMBOLS`` and ``SYMBOLS`` matter.
        queue_urls: the input queues, in their order.
        body: the repaired body, for one letter.
        force: send also what would be refused again.
        clock: read once; a timestamp must not lie past it.

    Raises:
        InvalidInputError: if a repaired body is given for another number of letters than one.
    """
    if body is not None and len(letters) != 1:
        raise InvalidInputError(
            f"expected one dead letter for a repaired body, got {len(letters)}", remedy="repair them one by one"
        )
    known = {row.symbol for row in load_instruments(connection)} | set(settings.symbols)
    instruments = None if settings.unknown_symbols == "register" else known
    replays = replays_of(connection, [letter.message_id for letter in letters])
    received_at = clock.now_us()
    return [
        _verdict(
            letter, letter.body if body is None else body, replays[letter.message_id], instruments, queue_urls,
            received_at=received_at, force=force,
        )
        for letter in letters
    ]  # fmt: skip


def send(
    connection: psycopg.Connection[Any],
    verdicts: Sequence[Verdict],
    queue: Callable[[str], Publisher],
    *,
    clock: Clock = SYSTEM_CLOCK,
) -> dict[str, str]:
    """Put on their queues what the verdicts say, and return letter → MessageId of its replay.

    Args:
        connection: in autocommit mode: a replay must be on record before it is sent.
        verdicts: of ``judge``; only those that say ``send`` count.
        queue: returns the client of a queue.
        clock: for the instants on record.

    Raises:
        QueueError: if SQS did not accept all; repeating the command sends those that are missing.
    """
    if not connection.autocommit:
        raise ValueError("expected a connection in autocommit mode: a replay must be on record before it is sent")
    sent: dict[str, str] = {}
    for queue_url, batch in _batches([verdict for verdict in verdicts if verdict.action == "send"]):
        instant = now(clock)
        with connection.transaction():
            for row in batch:
                values = (row.dedup_id, row.letter.message_id, queue_url, row.body, instant)
                connection.execute(_INTEND, values)
        ids = queue(queue_url).send([SendEntry(row.body, row.group_id, row.dedup_id) for row in batch])
        with connection.transaction():
            for row, message_id in zip(batch, ids, strict=True):
                connection.execute(_SENT, (message_id, row.dedup_id))
                connection.execute(_MARK, (now(clock), message_id, row.letter.message_id))
                sent[row.letter.message_id] = message_id
    return sent


@dataclass(frozen=True, slots=True)
class Replayed:
    """The outcome of one request to replay dead letters.

    Attributes:
        verdicts: one for each dead letter.
        sent: id of a dead letter → MessageId of its replay.
    """

    verdicts: tuple[Verdict, ...]
    sent: dict[str, str]

    @property
    def unsent(self) -> int:
        """Number of dead letters that cannot be sent."""
        return sum(verdict.action in ("refused", "elsewhere") for verdict in self.verdicts)


def replay(
    stores: Stores,
    ids: Sequence[str],
    *,
    code: str | None = None,
    body: str | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Replayed:
    """Put dead letters back on their queue, repaired or as they are; not those that would be refused again.

    Args:
        stores: database and queues.
        ids: of dead letters, which may be cut short.
        code: also all of this refusal code that were not replayed yet.
        body: the repaired body, for one dead letter.
        force: send also those that would be refused again.
        dry_run: only judge them.

    Raises:
        NotFoundError: if an id is of no dead letter, or of several.
        InvalidInputError: if a repaired body is given for another number of dead letters than one.
    """
    with stores.connect(autocommit=True) as connection:
        found = find_letters(connection, ids, code=code)
        queue_urls, clock = stores.endpoints.queue_urls, stores.clock
        verdicts = judge(connection, found, stores.settings, queue_urls, body=body, force=force, clock=clock)
        sent = {} if dry_run else send(connection, verdicts, stores.queue, clock=clock)
    return Replayed(tuple(verdicts), sent)


def counts_by_reason(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return source, code, rows, rows replayed and last instant of the refused inputs, most frequent first."""
    return connection.execute(
        "SELECT source, code, count(*), count(replayed_at), max(received_at) FROM ops.dead_letters "
        "GROUP BY 1, 2 ORDER BY 3 DESC"
    ).fetchall()


def newest(connection: psycopg.Connection[Any], limit: int, *, code: str | None = None) -> list[tuple[Any, ...]]:
    """Return id, instant, source, code and reason of the newest refused inputs, all or those with a code."""
    return connection.execute(
        "SELECT message_id, received_at, source, code, reason FROM ops.dead_letters "
        "WHERE %(code)s::text IS NULL OR code = %(code)s ORDER BY received_at DESC LIMIT %(limit)s",
        {"code": code, "limit": limit},
    ).fetchall()


def dedup_id(message_id: str, body: str) -> str:
    """Return the deduplication id of a letter's replay with a body: the same whenever the command is repeated."""
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
        said = _ELSEWHERE.get(
            letter.source, f"no message of a queue, its source is {letter.source}: land it there again"
        )
        return Verdict(letter, body, "elsewhere", said)
    id_ = dedup_id(letter.message_id, body)
    verdict = Verdict(letter, body, "send", "", letter.queue_url, UNREADABLE_GROUP, id_)
    before = next((replay for replay in earlier if replay.dedup_id == id_ and replay.replayed_as is not None), None)
    if before is not None:
        again = f"; it has a dead letter of its own: replay {before.replayed_as}" if before.outcome == "dead" else ""
        return replace(verdict, action="known", said=f"replayed with this body before: {before.said}{again}")
    tick = read_tick(body, received_at=received_at, instruments=instruments)
    if isinstance(tick, Refusal):
        said = f"{tick.code}: {tick.reason}"
        return replace(verdict, said=f"by force; {said}") if force else replace(verdict, action="refused", said=said)
    home = queue_for_symbol(tick.symbol, queue_urls)
    said = f"{tick.symbol}" if home == letter.queue_url else f"{tick.symbol}, to the queue of that symbol"
    return replace(verdict, said=said, queue_url=home, group_id=tick.symbol)


def _batches(verdicts: Sequence[Verdict]) -> Iterator[tuple[str, list[Verdict]]]:
    """Cut verdicts, in order, into the calls of each queue; a dedup id once a call."""
    by_queue: dict[str, dict[str, Verdict]] = {}
    for verdict in verdicts:
        by_queue.setdefault(verdict.queue_url, {})[verdict.dedup_id] = verdict
    for queue_url, rows in by_queue.items():
        listed = list(rows.values())
        for start in range(0, len(listed), BATCH_SIZE):
            yield queue_url, listed[start : start + BATCH_SIZE]
