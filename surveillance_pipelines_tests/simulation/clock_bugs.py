"""Bugs in the handling of clocks and outages, planted by replacing a function of the live lane."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest.mock import patch

from surveillance_pipelines.contracts.queue import Poll, Received
from surveillance_pipelines.engine.bar_builder import MINUTE_US
from surveillance_pipelines.engine.effects import ClockRow, Effects
from surveillance_pipelines.engine.engine import DecodedBatch, Engine
from surveillance_pipelines.engine.event_clock import ClockReading
from surveillance_pipelines.market.messages import read_tick
from surveillance_pipelines.runtime.initial_visibility import InitialVisibility
from surveillance_pipelines.runtime.micro_batches import ReceivedBatch
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.runtime.received_until import ReceivedUntil
from surveillance_pipelines.runtime.receiver import Receiver
from surveillance_pipelines.runtime.shell import Shell
from surveillance_pipelines_tests.simulation.faults import OutageError
from surveillance_pipelines_tests.simulation.store import MemoryStore

Patch = Callable[[], AbstractContextManager[object]]


def _shared_clock(self: Engine, reading: ClockReading, now_us: int, *, limit: int | None = None) -> Effects:
    """Let the newest message of any symbol set the clock of all."""
    anchors = [state.anchor for state in self._symbols.values() if state.anchor is not None]
    if not anchors:
        return Effects()
    clock = max(anchors).event_time + reading.queue_clock - max(anchors).sent_at
    last = clock - MINUTE_US - self._config.bar_close_grace
    open_bars = {symbol: state.open_bar for symbol, state in self._symbols.items()}
    due = tuple(sorted(symbol for symbol, bar in open_bars.items() if bar is not None and bar.bar_start <= last))
    return self.apply_clock(ClockRow(reading.queue_clock, now_us, due)) if due else Effects()


def _host_clock(self: Shell, wait_seconds: float) -> int:
    """Close bars by the host's clock, whatever waits in the queue."""
    received = self._received.next(wait_seconds)
    if received is not None and received.batch:
        self._process(received)
    self._close_due_bars(ClockReading(self._clock.now_us()))
    return 0 if received is None else len(received.batch)


def _backlog_ignored(self: ReceivedUntil, poll: Poll, blocked: frozenset[str]) -> ClockReading | None:
    return ClockReading(poll.answered_at, blocked | {message.group_id for message in poll.messages})


def _future_by_the_host(self: Engine, batch: list[Received]) -> DecodedBatch:
    known = None if self._config.unknown_symbols == "register" else self._instruments
    return [(message, read_tick(message.body, sent_at=message.received_at, instruments=known)) for message in batch]


def _commit_repeated_blindly(self: MemoryStore, effects: Effects, messages: Any, **_: int) -> Any:
    with self.database.transaction(self.lease):
        self._in_transaction()
        return self.database.write(effects, messages, self.lease.fencing)


def _receive_always(self: Shell) -> ReceivedBatch:
    """Receive whatever becomes of the messages received before."""
    poll = self._outages.repeat(
        "input queue", lambda: self._inputs.poll(10, wait_seconds=1, visibility_seconds=self._options.hidden_seconds)
    )
    return self._record(poll.messages, None) if poll.messages else ReceivedBatch()


def _poll_repeatedly(self: Receiver, wait_seconds: int) -> Poll:
    """Repeat a receive call throughout an outage, whether or not its messages arrive."""

    def poll_once() -> Poll:
        try:
            return self._inputs.poll(10, wait_seconds=wait_seconds, visibility_seconds=self.hidden_seconds)
        except OutageError:
            self.lose(self.hidden_seconds)
            raise

    poll = self._outages.repeat("input queue", poll_once)
    self.queue_ahead = poll.answered_at - self._clock.now_us()
    return poll


def _outage_ends_the_run(self: Outages, service: str, call: Callable[[], Any], **_: Any) -> Any:
    return call()


CLOCK_BUGS: Final[dict[str, Patch]] = {
    "one clock for all symbols": lambda: patch.object(Engine, "close_due", _shared_clock),
    "clock runs while intake is blocked": lambda: patch.object(Shell, "run_once", _host_clock),
    "clock closes bars during a backlog": lambda: patch.object(ReceivedUntil, "reading", _backlog_ignored),
    "host clock judges the future": lambda: patch.object(Engine, "read", _future_by_the_host),
    "commit repeated without a look": lambda: patch.object(MemoryStore, "commit", _commit_repeated_blindly),
    "outage ends the run": lambda: patch.object(Outages, "repeat", _outage_ends_the_run),
    "receive repeated throughout an outage": lambda: patch.object(Receiver, "poll", _poll_repeatedly),
    "late answers received again and again": lambda: patch.object(InitialVisibility, "lengthen", lambda *_: False),
    "intake goes on while commits fail": lambda: patch.object(Shell, "_receive", _receive_always),
}
"""Name → replacement of a function."""
