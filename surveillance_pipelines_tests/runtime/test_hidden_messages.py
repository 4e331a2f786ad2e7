"""Which messages the shell hides from other readers, and which it shows again."""

from collections.abc import Sequence

import pytest

from surveillance_pipelines.clock import ManualClock, to_datetime
from surveillance_pipelines.contracts.queue import Received
from surveillance_pipelines.transports.sqs import QueueError
from surveillance_pipelines_tests.engine.market import OPEN, stream
from surveillance_pipelines_tests.runtime.test_shell import (
    HIDDEN_SECONDS,
    VISIBILITY_SECONDS,
    ListQueue,
    TasksByHand,
    Wire,
    drive,
    make_shell,
)

__all__ = ["make_shell"]


class HidingQueue(ListQueue):
    """A queue that notes what it is to hide, and refuses to, at first."""

    def __init__(self, messages: Sequence[Received], refusals: int = 0) -> None:
        super().__init__(messages)
        self.hidden: list[tuple[list[str], int]] = []
        self.refusals = refusals

    def extend_visibility(self, receipts: Sequence[str], seconds: int) -> None:
        self.hidden.append((list(receipts), seconds))
        if len(self.hidden) <= self.refusals:
            raise QueueError("extend", "q", {0: "InternalError"}, len(receipts))


class KeepingQueue(HidingQueue):
    """A queue that refuses the first deletion of each message, for a reason of its own or because it is visible."""

    def __init__(self, messages: Sequence[Received], reason: str, refusals: int = 0) -> None:
        super().__init__(messages, refusals)
        self.reason = reason
        self.refused: set[str] = set()

    def delete(self, receipts: Sequence[str]) -> None:
        failures = {i: self.reason for i, receipt in enumerate(receipts) if receipt not in self.refused}
        self.refused |= set(receipts)
        super().delete([receipt for i, receipt in enumerate(receipts) if i not in failures])
        if failures:
            raise QueueError("delete", "q", failures, len(receipts))


def test_messages_that_are_worked_on_for_long_stay_hidden_until_they_are_deleted(live_lane, make_shell):
    """Each look hides what is due, and again what was refused; not what is on no record yet, nor what is through."""
    messages = stream(10)[:5]
    inputs, clock = HidingQueue(messages, refusals=1), ManualClock(to_datetime(OPEN))
    tasks = TasksByHand()
    shell = make_shell(inputs, Wire(), clock=clock, tasks=tasks)
    hide = tasks.recurring["hide"]
    receipts = [message.receipt_handle for message in messages]
    intake = shell._receive()
    hide()
    assert inputs.hidden == [], "a batch that has just come is not due"
    clock.advance(HIDDEN_SECONDS / 4)
    hide()
    hide()
    hide()
    assert inputs.hidden == [(receipts, VISIBILITY_SECONDS)] * 2, "refused, then taken, then not due"
    clock.advance(VISIBILITY_SECONDS / 4)
    hide()
    assert len(inputs.hidden) == 3
    shell._process(intake)
    clock.advance(VISIBILITY_SECONDS)
    hide()
    assert len(inputs.hidden) == 3, "what is deleted needs no hiding"


def test_message_whose_receipt_is_on_no_record_is_not_hidden_for_longer(live_lane, make_shell, monkeypatch):
    """Nobody could show it again if the process died now."""
    inputs, clock = HidingQueue(stream(10)[:5]), ManualClock(to_datetime(OPEN))
    tasks = TasksByHand()
    shell = make_shell(inputs, Wire(), clock=clock, tasks=tasks)
    hide = tasks.recurring["hide"]
    record_received = shell._store.record_received

    def slow(*args, **kwargs):
        clock.advance(HIDDEN_SECONDS)
        hide()
        return record_received(*args, **kwargs)

    monkeypatch.setattr(shell._store, "record_received", slow)
    shell._receive()
    assert inputs.hidden == []
    hide()
    assert len(inputs.hidden) == 1


@pytest.mark.parametrize(("reason", "shown"), [("InternalError", 5), ("ReceiptHandleIsInvalid: expired", 0)])
def test_message_that_was_not_deleted_is_shown_again_unless_it_is_visible(live_lane, make_shell, reason, shown):
    """A hidden message would block the later ones of its group."""
    inputs = KeepingQueue(stream(10)[:5], reason)
    drive(make_shell(inputs, Wire()), inputs)
    assert sum(len(receipts) for receipts, seconds in inputs.hidden if seconds == 0) == shown
    assert live_lane.outcomes() == {"scored": 5}


@pytest.mark.parametrize("refusals", [0, 1])
def test_next_holder_shows_what_this_one_could_neither_delete_nor_show(live_lane, make_shell, refusals):
    """Messages stay hidden for longer than a new process waits without knowing of them."""
    first, later = stream(20)[:5], stream(20)[5:10]
    inputs = KeepingQueue(first, "InternalError", refusals)
    shell = make_shell(inputs, Wire())
    shell.run_once(0)
    inputs.messages = later  # the next call records what is finished
    shell.run_once(0)
    inputs.hidden.clear()
    make_shell(inputs, Wire())
    shown = {receipt for receipts, seconds in inputs.hidden if seconds == 0 for receipt in receipts}
    hidden = {message.receipt_handle for message in first} if refusals else set()
    assert shown & {message.receipt_handle for message in first} == hidden
