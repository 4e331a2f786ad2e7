"""Indexes over the messages of the emulator's queues.

The emulator keeps the messages of a queue in a list and scans it in each receive, deletion and change of visibility, so
a call costs more the more messages wait. ``index_queues`` replaces the functions that scan. The new ones give the same
results, in time that depends on the messages of the call only. The format of the saved state is unchanged.
"""

import copy
import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

Message = dict[str, Any]
Queue = dict[str, Any]

_SLACK: Final = 1_000
"""Records of removed messages that a heap may hold beyond the number of messages before they are dropped."""


class _Group:
    """The messages of one message group; a standard queue is one group that does not block.

    Attributes:
        waiting: heap of the numbers of the visible messages; hidden and removed ones are dropped at its top.
        in_flight: received messages that are not visible. They block the group.
        offered: number of this group that was pushed last to the heap of deliverable messages and is still on it.
    """

    __slots__ = ("blocks", "in_flight", "key", "offered", "size", "waiting")

    def __init__(self, key: object, *, blocks: bool) -> None:
        self.key, self.blocks = key, blocks
        self.waiting: list[int] = []
        self.size = self.in_flight = 0
        self.offered: int | None = None

    @property
    def is_blocked(self) -> bool:
        return self.blocks and self.in_flight > 0


class _Entry:
    """One message with its position in the order of arrival."""

    __slots__ = ("group", "is_hidden", "is_queued", "message", "number")

    def __init__(self, number: int, message: Message, group: _Group) -> None:
        self.number, self.message, self.group = number, message, group
        self.is_hidden, self.is_queued = True, False


class Messages:
    """The messages of one queue in the order of their arrival.

    The emulator appends, counts, iterates and clears them as it does with its list; a deep copy is a list.

    Args:
        messages: messages in the order of arrival.
        fifo: whether a message in flight blocks the later messages of its group.
    """

    def __init__(self, messages: Iterable[Message], *, fifo: bool) -> None:
        self._fifo = fifo
        self._next = 0
        self.clear()
        for message in messages:
            self.append(message)

    def clear(self) -> None:
        """Remove all messages."""
        self._entries: dict[int, _Entry] = {}
        self._groups: dict[object, _Group] = {}
        self._by_receipt: dict[str, _Entry] = {}
        self._hidden: list[tuple[float, int]] = []
        self._by_age: list[tuple[float, int]] = []
        self._deliverable: list[int] = []
        self._returned: dict[int, dict[int, _Entry]] = {}  # receive count → visible messages that were received before
        self._delayed = self._in_flight = 0

    def __iter__(self) -> Iterator[Message]:
        return (entry.message for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Message]:
        return [copy.deepcopy(message, memo) for message in self]

    def append(self, message: Message) -> None:
        """Add a message; it is delivered after its ``visible_at``."""
        key = message.get("group_id") or None if self._fifo else None
        if (group := self._groups.get(key)) is None:
            group = self._groups[key] = _Group(key, blocks=key is not None)
        self._next += 1
        entry = self._entries[self._next] = _Entry(self._next, message, group)
        group.size += 1
        if message.get("receipt_handle") is not None:
            self._by_receipt[message["receipt_handle"]] = entry
        self._count_hidden(entry, 1)
        heapq.heappush(self._hidden, (message["visible_at"], entry.number))
        heapq.heappush(self._by_age, (message.get("enqueued_at", message["sent_at"]), entry.number))
        if len(self._by_age) > _SLACK + 2 * len(self._entries):
            self._by_age = [held for held in self._by_age if held[1] in self._entries]
            heapq.heapify(self._by_age)

    def counts(self, now: float) -> tuple[int, int, int]:
        """Return the numbers of visible, in-flight and delayed messages."""
        self._show_due(now)
        return len(self._entries) - self._in_flight - self._delayed, self._in_flight, self._delayed

    def receive(self, count: int, visible_at: float, now: float, new_receipt: Callable[[], str]) -> list[Message]:
        """Hide up to ``count`` deliverable messages until ``visible_at`` and return them in the order of arrival."""
        self._show_due(now)
        taken: list[Message] = []
        open_groups: set[_Group] = set()  # this call may take several messages of a group
        while self._deliverable and len(taken) < count:
            entry = self._entries.get(number := heapq.heappop(self._deliverable))
            if entry is None:
                continue
            group = entry.group
            if group.offered == number:
                group.offered = None
            if (group.is_blocked and group not in open_groups) or self._head(group) != number:
                continue
            open_groups.add(group)
            self._take(entry, visible_at, now, new_receipt())
            taken.append(entry.message)
            self._offer(group, even_blocked=True)
        return taken

    def delete(self, receipt: object) -> bool:
        """Remove the message that was last received with this receipt; return whether there is one."""
        if (entry := self._find(receipt)) is None:
            return False
        self._remove(entry)
        return True

    def change_visibility(self, receipt: object, visible_at: float) -> bool:
        """Hide the message of a receipt until ``visible_at``; return whether there is one."""
        if (entry := self._find(receipt)) is None:
            return False
        self._hide(entry, visible_at)
        self._offer(entry.group)
        return True

    def expire(self, cutoff: float) -> None:
        """Remove the messages that were enqueued at ``cutoff`` or before."""
        while self._by_age and self._by_age[0][0] <= cutoff:
            if (entry := self._entries.get(heapq.heappop(self._by_age)[1])) is not None:
                self._remove(entry)

    def pop_received(self, count: int, now: float) -> list[Message]:
        """Remove and return the visible messages that were received ``count`` times or more."""
        self._show_due(now)
        found = [entry for times, held in self._returned.items() if times >= count for entry in held.values()]
        found.sort(key=lambda entry: entry.number)
        for entry in found:
            self._remove(entry)
        return [entry.message for entry in found]

    def _find(self, receipt: object) -> _Entry | None:
        return self._by_receipt.get(receipt) if isinstance(receipt, str) else None

    def _show_due(self, now: float) -> None:
        while self._hidden and self._hidden[0][0] <= now:
            visible_at, number = heapq.heappop(self._hidden)
            if self._is_due_at(visible_at, number):
                self._show(self._entries[number])

    def _is_due_at(self, visible_at: float, number: int) -> bool:
        """Return whether a hidden message becomes visible at this time; a later call may have changed its time."""
        entry = self._entries.get(number)
        return entry is not None and entry.is_hidden and entry.message["visible_at"] == visible_at

    def _show(self, entry: _Entry) -> None:
        self._count_hidden(entry, -1)
        entry.is_hidden = False
        if times := entry.message["receive_count"]:
            self._returned.setdefault(times, {})[entry.number] = entry
        if not entry.is_queued:
            heapq.heappush(entry.group.waiting, entry.number)
            entry.is_queued = True
        self._offer(entry.group)

    def _take(self, entry: _Entry, visible_at: float, now: float, receipt: str) -> None:
        message = entry.message
        self._forget_returned(entry)
        self._by_receipt.pop(message["receipt_handle"], None)
        message["receipt_handle"] = receipt
        message["receive_count"] += 1
        if message.get("first_receive_at") is None:
            message["first_receive_at"] = now
        self._by_receipt[receipt] = entry
        self._hide(entry, visible_at)

    def _hide(self, entry: _Entry, visible_at: float) -> None:
        if not entry.is_hidden:
            self._forget_returned(entry)
            entry.is_hidden = True
            self._count_hidden(entry, 1)
        entry.message["visible_at"] = visible_at
        heapq.heappush(self._hidden, (visible_at, entry.number))
        if len(self._hidden) > _SLACK + 2 * len(self._entries):
            self._hidden = [held for held in self._hidden if self._is_due_at(*held)]
            heapq.heapify(self._hidden)

    def _remove(self, entry: _Entry) -> None:
        del self._entries[entry.number]
        self._by_receipt.pop(entry.message["receipt_handle"], None)
        if entry.is_hidden:
            self._count_hidden(entry, -1)
        else:
            self._forget_returned(entry)
        entry.group.size -= 1
        if entry.group.size == 0:
            del self._groups[entry.group.key]
        else:
            self._offer(entry.group)

    def _count_hidden(self, entry: _Entry, change: int) -> None:
        if entry.message["receive_count"]:
            self._in_flight += change
            entry.group.in_flight += change
        else:
            self._delayed += change

    def _forget_returned(self, entry: _Entry) -> None:
        times = entry.message["receive_count"]
        if held := self._returned.get(times):
            held.pop(entry.number, None)
            if not held:
                del self._returned[times]

    def _offer(self, group: _Group, *, even_blocked: bool = False) -> None:
        """Make the first visible message of a group deliverable, if the group is not blocked."""
        if group.is_blocked and not even_blocked:
            return
        head = self._head(group)
        if head is not None and group.offered != head:
            heapq.heappush(self._deliverable, head)
            group.offered = head

    def _head(self, group: _Group) -> int | None:
        """Return the number of the first visible message of a group."""
        while group.waiting:
            entry = self._entries.get(group.waiting[0])
            if entry is not None and not entry.is_hidden:
                return entry.number
            heapq.heappop(group.waiting)
            if entry is not None:
                entry.is_queued = False
        return None


class QueueIndex:
    """The emulator's functions that scan a queue, over ``Messages``.

    Args:
        emulator: the emulator's module for SQS. Its clock is used, because its own functions set ``visible_at``.
    """

    def __init__(self, emulator: Any) -> None:
        self._emulator: Final = emulator

    def expire_retained(self, queue: Queue) -> None:
        try:
            retention = int(queue["attributes"].get("MessageRetentionPeriod", "345600"))
        except (TypeError, ValueError):
            return
        self._messages(queue).expire(self._now() - retention)

    def refresh_counts(self, queue: Queue) -> None:
        self.expire_retained(queue)
        visible, in_flight, delayed = self._messages(queue).counts(self._now())
        queue["attributes"]["ApproximateNumberOfMessages"] = str(visible)
        queue["attributes"]["ApproximateNumberOfMessagesNotVisible"] = str(in_flight)
        queue["attributes"]["ApproximateNumberOfMessagesDelayed"] = str(delayed)

    def collect(self, queue: Queue, count: int, visibility_timeout: int) -> list[Message]:
        now = self._now()
        return self._messages(queue).receive(count, now + visibility_timeout, now, self._emulator.new_uuid)

    def sweep(self, queue: Queue) -> None:
        """Move the messages that were received too often to the queue's dead-letter queue."""
        limit, target = _redrive_policy(queue)
        found = self._emulator._queue_by_arn(target) if limit and target else None  # noqa: SLF001
        if found is None:
            return
        now = self._now()
        for message in self._messages(queue).pop_received(limit, now):
            system = {"DeadLetterQueueSourceArn": queue["attributes"].get("QueueArn", ""), **message.get("sys", {})}
            moved = {**message, "receipt_handle": None, "visible_at": now, "sys": system}
            if found.get("is_fifo"):
                moved["enqueued_at"] = now
            found["messages"].append(moved)
            self._emulator.esm_wake.set()

    def prune_deduplication(self, queue: Queue) -> None:
        """Drop the expired ids, which are the first ones: each id is kept for the same time."""
        cache, now = queue["dedup_cache"], self._now()
        while cache and cache[first := next(iter(cache))]["expire"] <= now:
            del cache[first]

    def delete(self, request: dict[str, Any], url: str) -> dict[str, Any]:
        queue = self._queue(request, url, "sqs:DeleteMessage")
        receipt = request.get("ReceiptHandle", "")
        if not receipt:
            raise self._emulator._Err(  # noqa: SLF001
                "MissingParameter", "The request must contain the parameter ReceiptHandle."
            )
        if not self._messages(queue).delete(receipt):
            raise self._invalid_receipt()
        return {}

    def delete_batch(self, request: dict[str, Any], url: str) -> dict[str, Any]:
        queue = self._queue(request, url, "sqs:DeleteMessage")
        messages = self._messages(queue)
        return self._batch(request, "Delete", lambda entry: messages.delete(entry.get("ReceiptHandle", "")))

    def change_visibility(self, request: dict[str, Any], url: str) -> dict[str, Any]:
        queue = self._queue(request, url, "sqs:ChangeMessageVisibility")
        if not self._change(queue, request):
            raise self._invalid_receipt()
        return {}

    def change_visibility_batch(self, request: dict[str, Any], url: str) -> dict[str, Any]:
        queue = self._queue(request, url, "sqs:ChangeMessageVisibility")
        return self._batch(request, "ChangeMessageVisibility", lambda entry: self._change(queue, entry))

    def _change(self, queue: Queue, entry: dict[str, Any]) -> bool:
        seconds = int(entry.get("VisibilityTimeout", 30))
        found = self._messages(queue).change_visibility(entry.get("ReceiptHandle", ""), self._now() + seconds)
        if found and seconds == 0:
            self._emulator.esm_wake.set()
        return found

    def _batch(self, request: dict[str, Any], name: str, change: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        entries = request.get("Entries", [])
        kind = f"{name}MessageBatchRequestEntry" if name == "Delete" else f"{name}BatchRequestEntry"
        self._emulator._validate_batch_entries(entries, kind)  # noqa: SLF001
        done: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for entry in entries:
            if change(entry):
                done.append({"Id": entry.get("Id", "")})
            else:
                error = self._invalid_receipt()
                failed.append(
                    {"Id": entry.get("Id", ""), "Code": error.code, "Message": error.message, "SenderFault": True}
                )
        return {"Successful": done, "Failed": failed}

    def _invalid_receipt(self) -> Any:
        return self._emulator._Err("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")  # noqa: SLF001

    def _queue(self, request: dict[str, Any], url: str, action: str) -> Queue:
        return self._emulator._get_q(request.get("QueueUrl", url), action)  # noqa: SLF001

    def _messages(self, queue: Queue) -> Messages:
        """Return the indexed messages of a queue; a list is that of a new queue or of saved state."""
        messages = queue["messages"]
        if not isinstance(messages, Messages):
            for message in messages:
                self._emulator._ensure_msg_fields(message)  # noqa: SLF001
            messages = queue["messages"] = Messages(messages, fifo=queue["is_fifo"])
        return messages

    def _now(self) -> float:
        return self._emulator.time.time()


def index_queues(emulator: Any) -> None:
    """Replace the functions of the emulator's SQS module that scan a queue."""
    index = QueueIndex(emulator)
    emulator._expire_retained = index.expire_retained  # noqa: SLF001
    emulator._refresh_counts = index.refresh_counts  # noqa: SLF001
    emulator._collect_msgs = index.collect  # noqa: SLF001
    emulator._dlq_sweep = index.sweep  # noqa: SLF001
    emulator._prune_dedup = index.prune_deduplication  # noqa: SLF001
    emulator._HANDLERS.update(  # noqa: SLF001
        DeleteMessage=index.delete,
        DeleteMessageBatch=index.delete_batch,
        ChangeMessageVisibility=index.change_visibility,
        ChangeMessageVisibilityBatch=index.change_visibility_batch,
    )


def _redrive_policy(queue: Queue) -> tuple[int, str]:
    """Return the receive count of a queue's dead-letter policy and its target; 0 without a valid policy."""
    try:
        policy = json.loads(queue["attributes"].get("RedrivePolicy") or "null")
        return int(policy.get("maxReceiveCount", 0)), policy.get("deadLetterTargetArn", "")
    except (AttributeError, TypeError, ValueError):
        return 0, ""
