"""Receives messages of the input queue, and knows what may be hidden from this process and for how long."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from surveillance_pipelines.clock import Clock
from surveillance_pipelines.contracts.queue import Poll, Received
from surveillance_pipelines.engine.effects import Known
from surveillance_pipelines.engine.event_clock import ClockReading
from surveillance_pipelines.engine.repeats import kept_content
from surveillance_pipelines.runtime.initial_visibility import InitialVisibility
from surveillance_pipelines.runtime.outages import Outages
from surveillance_pipelines.runtime.ports import InputQueue, Store
from surveillance_pipelines.runtime.received_until import ReceivedUntil
from surveillance_pipelines.telemetry import get_logger

RECENT_IDS: Final = 10_000
"""Number of recent ids of each kind that are kept; far more than can be between ``load`` and ``commit``."""

_LOG = get_logger("receiver")


class Receiver:
    """Calls of one thread to receive messages; ``lose`` may be called by any thread.

    Args:
        inputs: the queue.
        store: records the initial visibility timeout for the next lease holder.
        outages: repeats calls while a service is unavailable.
        clock: source of time.
        max_messages: of a call.
        shortest, longest: initial visibility timeout in seconds.

    Attributes:
        queue_ahead: the queue's clock minus the host's at the last answer, in microseconds.
    """

    def __init__(
        self,
        inputs: InputQueue,
        store: Store,
        outages: Outages,
        clock: Clock,
        *,
        max_messages: int,
        shortest: int,
        longest: int,
    ) -> None:
        self._inputs: Final = inputs
        self._store: Final = store
        self._outages: Final = outages
        self._clock: Final = clock
        self._max_messages: Final = max_messages
        self._visibility: Final = InitialVisibility(shortest, longest)
        self._received_until: Final = ReceivedUntil()
        self._recent_ids: Final[OrderedDict[str, int]] = OrderedDict()  # each with its initial visibility timeout
        self._recent_contents: Final[OrderedDict[str, str]] = OrderedDict()  # of each deduplication id
        self.queue_ahead = 0

    @property
    def hidden_seconds(self) -> int:
        """The initial visibility timeout of the messages received last."""
        return self._visibility.seconds

    def start(self) -> None:
        """Continue after the previous lease holder, which may have received messages that it has not recorded."""
        self._visibility.inherit(self._store.hidden_seconds(), self._clock.now_us())
        self.lose(self._visibility.seconds)

    def lose(self, seconds: float) -> None:
        """Record that messages may be hidden from this process for ``seconds``."""
        self._received_until.lose(seconds)

    def poll(self, wait_seconds: int) -> Poll:
        """Receive once; after a failure, only when the queue answers another call.

        A failed call may have received messages. If it were repeated throughout an outage, SQS would count a receive
        each time and move the messages to the dead-letter queue. If calls fail although others succeed, the messages
        are hidden for longer, so that they are received less often.
        """
        visibility, lost = self._visibility, 0
        if visibility.shorten(self._clock.now_us()):
            self._store.record_hidden(visibility.seconds)

        def poll_once() -> Poll:
            nonlocal lost
            self._outages.wait("database")
            if lost:
                self._inputs.probe()
            if lost > 1:
                self._lengthen(visibility.seconds)
            try:
                return self._inputs.poll(
                    self._max_messages, wait_seconds=wait_seconds, visibility_seconds=visibility.seconds
                )
            except Exception:
                lost += 1
                self.lose(visibility.seconds)
                raise

        poll = self._outages.repeat("input queue", poll_once)
        if poll.attempts > 1:
            self.lose(visibility.seconds)
        if not self._received_until.is_known(poll.answered_at):
            visibility.keep(self._clock.now_us())
        self.queue_ahead = poll.answered_at - self._clock.now_us()
        return poll

    def reading(self, poll: Poll, blocked: frozenset[str]) -> ClockReading | None:
        """Return the clock reading that an answer proves, as ``ReceivedUntil.reading``."""
        return self._received_until.reading(poll, blocked)

    def with_recent(self, batch: Sequence[Received], known: Known) -> Known:
        """Add ids received by this process, which may not be committed yet, to the known ids; store the batch's ids.

        Messages that this process receives again were visible too early, so the next ones are hidden for longer.
        """
        recent, contents = self._recent_ids, self._recent_contents
        again = {m.message_id: used for m in batch if (used := recent.get(m.message_id)) is not None}
        repeated = {m.dedup_id: contents[m.dedup_id] for m in batch if m.dedup_id in contents and m.dedup_id}
        found = Known(known.message_ids | again.keys(), {**repeated, **known.dedup_ids})
        for message in batch:
            recent[message.message_id] = self._visibility.seconds
            if message.dedup_id is not None:
                contents.setdefault(message.dedup_id, kept_content(message.body))
        if again:
            self._lengthen(max(again.values()))
        for kept in (recent, contents):
            while len(kept) > RECENT_IDS:
                kept.popitem(last=False)
        return found

    def _lengthen(self, used: int) -> None:
        if self._visibility.lengthen(used, self._clock.now_us()):
            self._store.record_hidden(self._visibility.seconds)  # before it is used
            _LOG.info("longer initial visibility timeout", seconds=self._visibility.seconds)
