"""A simulated SQS FIFO queue with the traps of the real one.

It forgets deduplication ids after five minutes; blocks a group while one of its messages is in flight; hands a message
out again when its visibility ends; moves it to a dead-letter queue after so many receives, which lets later ones of its
group overtake; accepts batch calls in part; refuses receipts that are no longer the newest; and may forget a visibility
timeout or a deletion, which is what "at least once" means.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.queue import Received, SendEntry
from surveillance_pipelines.transports.sqs import BATCH_SIZE, QueueError
from surveillance_pipelines_tests.simulation.faults import FaultPlan
from surveillance_pipelines_tests.simulation.timeline import Timeline

DEDUP_US: Final = 300 * MICROSECONDS


@dataclass(slots=True)
class Stored:
    """One message as the queue keeps it. Instants are microseconds since the epoch."""

    message_id: str
    body: str
    group_id: str
    dedup_id: str
    sequence: int
    sent_at: int
    visible_at: int = 0
    receive_count: int = 0
    receipt: str = ""

    def received(self, received_at: int) -> Received:
        """Return the message as a receiver gets it."""
        return Received(
            message_id=self.message_id,
            body=self.body,
            group_id=self.group_id,
            dedup_id=self.dedup_id,
            sequence_number=f"{self.sequence:020d}",
            sent_at=self.sent_at,
            received_at=received_at,
            receive_count=self.receive_count,
            receipt_handle=self.receipt,
        )


class SimulatedFifo:
    """One queue and its dead-letter queue, in virtual time."""

    def __init__(
        self, name: str, timeline: Timeline, faults: FaultPlan, *, seed: int, max_receive_count: int = 1_000_000
    ) -> None:
        self.url: Final = name
        self.dead_letters: Final[list[Stored]] = []
        self.overtaken: Final[set[str]] = set()  # groups that lost a message to the dead-letter queue
        self.obscured: Final[set[str]] = set()  # groups whose later messages hid behind one that was deleted
        self.log: Final[list[Stored]] = []  # every message accepted, for the invariants
        self._timeline: Final = timeline
        self._faults: Final = faults
        self._random: Final = random.Random(f"{name} {seed}")
        self._max_receive_count: Final = max_receive_count
        self._groups: Final[dict[str, list[Stored]]] = {}
        self._by_receipt: Final[dict[str, Stored]] = {}
        self._dedup: Final[dict[str, Stored]] = {}
        self.redriven: Final[dict[str, str]] = {}  # new message id → the one it had before

    @property
    def is_empty(self) -> bool:
        """Say whether nothing is left, visible or in flight, here or in the dead-letter queue."""
        return not self.dead_letters and not any(self._groups.values())

    def send(self, entries: Sequence[SendEntry]) -> list[str]:
        """Accept messages in calls of ten; raises ``QueueError`` for those that were refused, after every call."""
        ids: list[str] = []
        failures: dict[int, str] = {}
        for start in range(0, len(entries), BATCH_SIZE):
            call = entries[start : start + BATCH_SIZE]
            refused = self._faults.refused(f"send to {self.url}", len(call))
            for i, entry in enumerate(call):
                if i in refused:
                    failures[start + i] = "InternalError: simulated"
                else:
                    ids.append(self.accept(entry))
        if failures:
            raise QueueError("send", self.url, failures, len(entries))
        return ids

    def accept(self, entry: SendEntry) -> str:
        """Take one message in, or drop it for a deduplication id of the last five minutes; return the message id."""
        if entry.dedup_id is None:
            raise ValueError(f"expected a deduplication id, {self.url} derives none")
        known, now = self._dedup.get(entry.dedup_id), self._timeline.now
        if known is not None and now - known.sent_at < DEDUP_US:
            return known.message_id
        return self._append(f"{self.url}-{len(self.log):06d}", entry.body, entry.group_id, entry.dedup_id)

    def receive(self, max_messages: int, *, visibility_seconds: int, received_at: int) -> list[Received]:
        """Return visible messages of the groups that are not blocked, in order within each group."""
        now = self._timeline.now
        batch: list[Stored] = []
        names = [name for name, group in self._groups.items() if group]
        self._random.shuffle(names)
        for name in names:
            self._bury(name)
            group = self._groups[name]
            if any(message.visible_at > now for message in group):
                continue
            room = max_messages - len(batch)
            batch += group[: self._random.randint(1, room)] if room else []
        for message in batch:
            message.visible_at = now + visibility_seconds * MICROSECONDS
            message.receive_count += 1
            message.receipt = f"{message.message_id}/{message.receive_count}"
            self._by_receipt[message.receipt] = message
        received = [message.received(received_at) for message in batch]
        if batch and self._faults.forgets("visibility"):
            self._random.choice(batch).visible_at = now
        return received

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete messages; raises ``QueueError`` for receipts that are stale or refused, after all others are gone."""
        refused = self._faults.refused(f"delete from {self.url}", len(receipts)) if receipts else frozenset()
        failures: dict[int, str] = {}
        for i, receipt in enumerate(receipts):
            message = self._by_receipt.get(receipt)
            if message is None or message not in self._groups[message.group_id]:
                continue  # gone already: SQS says yes
            if message.receipt != receipt or message.visible_at <= self._timeline.now:
                self._faults.note(f"{receipt} is stale", "stale receipt")
                failures[i] = "ReceiptHandleIsInvalid: the receipt handle has expired"
            elif i in refused:
                failures[i] = "InternalError: simulated"
            elif self._faults.forgets("deletion"):
                self.obscured.add(message.group_id)
            else:
                self._groups[message.group_id].remove(message)
        if failures:
            raise QueueError("delete", self.url, failures, len(receipts))

    def extend_visibility(self, receipts: Sequence[str], seconds: int) -> None:
        """Hide messages for so long from now; raises ``QueueError`` for receipts that are stale or refused."""
        refused = self._faults.refused(f"extend on {self.url}", len(receipts)) if receipts else frozenset()
        now, failures = self._timeline.now, {}
        for i, receipt in enumerate(receipts):
            message = self._by_receipt.get(receipt)
            held = message is not None and message in self._groups[message.group_id] and message.visible_at > now
            if message is None or not held or message.receipt != receipt:
                failures[i] = "MessageNotInflight: simulated"
            elif i in refused:
                failures[i] = "InternalError: simulated"
            else:
                message.visible_at = now + seconds * MICROSECONDS
        if failures:
            raise QueueError("extend", self.url, failures, len(receipts))

    def was_redriven(self, message_id: str) -> bool:
        """Say whether a message came back from the dead-letter queue, under another id."""
        return message_id in self.redriven.values()

    def next_visible_at(self) -> int | None:
        """Return when a message may next be received, None if there is none."""
        heads = [max(message.visible_at for message in group) for group in self._groups.values() if group]
        return min(heads) if heads else None

    def redrive(self) -> None:
        """Put the dead letters back at the end of their groups, as SQS does: under new message ids."""
        letters = list(self.dead_letters)
        self.dead_letters.clear()
        for letter in letters:
            name = f"{self.url}-redriven-{len(self.redriven):04d}"
            self.redriven[name] = letter.message_id
            self._append(name, letter.body, letter.group_id, letter.dedup_id, remember=False)

    def _append(self, message_id: str, body: str, group_id: str, dedup_id: str, *, remember: bool = True) -> str:
        now = self._timeline.now
        message = Stored(message_id, body, group_id, dedup_id, len(self.log), now - now % 1_000)
        self._groups.setdefault(group_id, []).append(message)
        if remember:
            self.log.append(message)
            self._dedup[dedup_id] = message
        return message_id

    def _bury(self, name: str) -> None:
        """Move what was received too often to the dead-letter queue; the rest of its group goes on without it."""
        group, now = self._groups[name], self._timeline.now
        dead = [m for m in group if m.receive_count >= self._max_receive_count and m.visible_at <= now]
        if dead:
            self.dead_letters.extend(dead)
            self._groups[name] = [message for message in group if message not in dead]
            self.overtaken.add(name)
            self._faults.note(f"{len(dead)} of group {name} to the dead-letter queue", "dead-letter queue breaks order")
