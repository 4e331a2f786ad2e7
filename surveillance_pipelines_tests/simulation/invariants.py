"""What must hold of a schedule once it has come to rest."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate

from surveillance_pipelines.stores.outbox import OutboxRow
from surveillance_pipelines.transports.sqs import QueueError
from surveillance_pipelines_tests.simulation.fifo import SimulatedFifo
from surveillance_pipelines_tests.simulation.side_channel import CHANNEL, DeliveryRuns
from surveillance_pipelines_tests.simulation.world import World

_STAMP = re.compile(',"t_published":("[^"]*"|null)')
_ID = re.compile('"id":"([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as a consumer of the output queue got it: first the wire's own id, then what the body says."""

    dedup_id: str
    group_id: str
    row_id: str
    body: str


def consume(queue: SimulatedFifo, world: World) -> list[Delivery]:
    """Take everything off the output queue, as a consumer that the queue serves at least once."""
    timeline, deliveries = world.timeline, []
    while not queue.is_empty:
        batch = queue.receive(10, visibility_seconds=30, received_at=timeline.now)
        for message in batch:
            row_id, body = row_id_of(message.body), _STAMP.sub("", message.body)
            deliveries.append(Delivery(str(message.dedup_id), message.group_id, row_id, body))
        with suppress(QueueError):  # what was not deleted comes again
            queue.delete([message.receipt_handle for message in batch])
        if not batch:
            timeline.now = max(timeline.now + 1, queue.next_visible_at() or 0)
    return deliveries


def row_id_of(body: str) -> str:
    """Return the id in the JSON of an output message."""
    return _ID.search(body)[1]  # pyright: ignore[reportOptionalSubscript] (every message has one)


def wire_violations(deliveries: Sequence[Delivery], expected: Iterable[OutboxRow]) -> list[str]:
    """Return what a consumer that drops repeated deduplication ids would notice of lost, doubled or reordered rows.

    Args:
        deliveries: in order of arrival.
        expected: the rows that should have come, in the order of their causes; a body of "" is not compared.
    """
    rows = {row.id: replace(row, body=_STAMP.sub("", row.body)) for row in expected}
    first: dict[str, Delivery] = {}
    for delivery in deliveries:
        first.setdefault(delivery.dedup_id, delivery)
    effects = Counter(delivery.row_id for delivery in first.values())
    found: list[str] = []
    if lost := rows.keys() - effects.keys():
        found.append(f"wire: {len(lost)} rows never arrived")
    if doubled := [row_id for row_id, times in effects.items() if times > 1]:
        found.append(f"wire: {len(doubled)} rows arrived under two ids")
    if unknown := effects.keys() - rows.keys():
        found.append(f"wire: {len(unknown)} messages that no committed row stands behind")
    if changed := [d for d in deliveries if d.row_id in rows and rows[d.row_id].body not in ("", d.body)]:
        found.append(f"wire: {len(changed)} messages say other than the committed row")
    for group in sorted({row.group_id for row in rows.values()}):
        arrived = list(dict.fromkeys(d.row_id for d in first.values() if d.group_id == group and d.row_id in rows))
        caused = [row.id for row in rows.values() if row.group_id == group and row.id in effects]
        if arrived != caused:
            found.append(f"wire: messages of {group} arrived in another order than they were caused")
    return found


def ledger_violations(world: World) -> list[str]:
    """Return where the books are wrong: one outcome a message, one effect a deduplication id, one writer at a time."""
    database, found = world.database, []
    sent = {message.message_id for message in world.inputs.log}
    outcomes = database.ledger
    if sent - outcomes.keys():
        lost = [id_ for id_ in sent - outcomes.keys() if not world.inputs.was_redriven(id_)]
        found += [f"ledger: {len(lost)} messages without an outcome"] if lost else []
    if outcomes.keys() - sent - world.inputs.redriven.keys():
        found.append("ledger: an outcome of no message")
    if outcomes.keys() != database.inbox.keys():
        found.append("ledger: inbox and ledger name different messages")
    taken_in = Counter(row.dedup_id for row in outcomes.values() if row.outcome != "duplicate")
    wanted = {message.dedup_id for message in world.inputs.log}
    if missing := wanted - taken_in.keys():
        found.append(f"ledger: {len(missing)} trades were never taken in")
    if repeated := [id_ for id_, times in taken_in.items() if times > 1]:
        found.append(f"ledger: {len(repeated)} trades were taken in twice")
    numbers = [commit.fencing for commit in database.commits]
    if late := sum(number < newest for number, newest in zip(numbers, accumulate(numbers, max), strict=True)):
        found.append(f"ledger: {late} transactions of a run whose queue another had taken over")
    handled = Counter(m.message_id for commit in database.commits for m in commit.messages)
    if twice := [id_ for id_, times in handled.items() if times > 1]:
        found.append(f"ledger: {len(twice)} messages had their effects twice")
    return found


def delivery_violations(world: World, runs: DeliveryRuns) -> list[str]:
    """Return what is wrong with the side channel: rows lost or reordered, recorded too early, or by a stale run."""
    posted = world.database.posted
    arrived = [
        Delivery(entry.dedup_id, entry.group_id, row_id_of(entry.body), _STAMP.sub("", entry.body))
        for entry in runs.channel.log
    ]
    found = [f"channel {line}" for line in wire_violations(arrived, [one.row for one in posted])]
    first: dict[str, int] = {}
    for entry in runs.channel.log:
        first.setdefault(entry.dedup_id, entry.at)
    recorded = {one.row.id: one.delivered_at.get(CHANNEL) for one in posted}
    if unrecorded := sum(at is None for at in recorded.values()):
        found.append(f"channel: {unrecorded} deliveries were never recorded")
    if early := sum(at is not None and at < first.get(id_, at + 1) for id_, at in recorded.items()):
        found.append(f"channel: {early} deliveries were recorded before the channel had the message")
    numbers = world.database.delivery_fencing.get(CHANNEL, [])
    if late := sum(number < newest for number, newest in zip(numbers, accumulate(numbers, max), strict=True)):
        found.append(f"channel: {late} records of a run whose lease another had taken over")
    return found


def isolation_violations(world: World, alone: World) -> list[str]:
    """Return whether SQS got other messages, or at other instants, than without the side channel."""
    both = [[(message.dedup_id, message.sent_at) for message in one.outputs.log] for one in (world, alone)]
    return [] if both[0] == both[1] else ["isolation: the side channel changed what the SQS output queue got, or when"]
