"""Notifications: which events are new, and when a receiver gets a message. Pure but for the given ``send``.

The state is the cursor of the sensor, which Dagster stores in its database. A message is sent again if the process dies
after sending it and before the cursor is stored. A kind that is not in ``NOTIFY_ON`` has no position, so that switching
it on sends no past events.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from pydantic import BaseModel, Field, ValidationError

from surveillance_pipelines.clock import MICROSECONDS, to_datetime
from surveillance_pipelines.services.facts import Fact, instant
from surveillance_pipelines.settings import NotificationKind, Settings

SHOWN: Final = 10
"""Events that a message lists; it counts the others."""
UNSERVED_SECONDS: Final = 120.0
"""Time after which a queue with work and without a run counts as not served: the longest pause after failed runs."""

_FIRST_RETRY_SECONDS: Final = 60.0
_LONGEST_RETRY_SECONDS: Final = 3600.0
_FAILURES_AT_ONCE: Final = 3
"""Failed attempts per evaluation of the sensor, because each may take seconds; other receivers wait for the next."""
_SEEN: Final = 500
"""Keys kept per kind: more than can be read again, and more alerts than can be opened and not yet confirmed."""
_LONGEST_LINE: Final = 300
_NOUNS: Final[Mapping[NotificationKind, tuple[str, str]]] = {
    "failed_run": ("failed run", "failed runs"),
    "red_check": ("red check", "red checks"),
    "alert": ("alert", "alerts"),
    "queue_not_served": ("queue not served", "queues not served"),
}

Send = Callable[[str, str, str], str | None]
"""Sends (URL, title, body) and returns why it failed; None if the receiver accepted it. It does not raise."""


class Event(BaseModel):
    """One event, with its text in a message."""

    kind: NotificationKind
    text: str


class Receiver(BaseModel):
    """What a receiver has not got yet, and when the next message may be sent.

    Attributes:
        counts: number of waiting events of each kind.
        lines: texts of the first waiting events.
        next_at: earliest time of the next message, microseconds since the epoch.
        failures: failed attempts since the last success.
        error: reason of the last failure, without secrets.
        failed_at: time of the last failure, microseconds since the epoch.
    """

    counts: dict[NotificationKind, int] = Field(default_factory=dict)
    lines: list[str] = Field(default_factory=list)
    next_at: int = 0
    failures: int = 0
    error: str = ""
    failed_at: int = 0

    @property
    def waiting(self) -> int:
        return sum(self.counts.values())

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            self.counts[event.kind] = self.counts.get(event.kind, 0) + 1
            if len(self.lines) < SHOWN:
                self.lines.append(event.text[:_LONGEST_LINE])


class Unserved(BaseModel):
    """A queue that needs a run and has none, since an instant in microseconds since the epoch."""

    since: int
    is_notified: bool = False


class NotificationState(BaseModel):
    """What has been read and sent.

    Attributes:
        positions: source (``runs``, ``checks`` or the URL of a queue) → position up to which it has been read.
        seen: keys of the last events of each kind.
        red: names of the checks whose latest evaluation failed.
        unserved: queue → since when no run serves it.
        receivers: name of a receiver → its state.
    """

    positions: dict[str, int] = Field(default_factory=dict)
    seen: dict[NotificationKind, list[str]] = Field(default_factory=dict)
    red: list[str] = Field(default_factory=list)
    unserved: dict[str, Unserved] = Field(default_factory=dict)
    receivers: dict[str, Receiver] = Field(default_factory=dict)

    @classmethod
    def load(cls, cursor: str | None) -> "NotificationState":
        """Return the state in a cursor; a new state if there is none or another version wrote it."""
        try:
            return cls.model_validate_json(cursor) if cursor else cls()
        except ValidationError:
            return cls()

    def unseen(self, kind: NotificationKind, keys: Iterable[str]) -> set[str]:
        """Return the keys that have not been seen, and record them."""
        seen = self.seen.setdefault(kind, [])
        new = list(dict.fromkeys(key for key in keys if key not in seen))
        seen += new
        del seen[:-_SEEN]
        return set(new)

    def turned_red(self, check: str, *, passed: bool) -> bool:
        """Record an evaluation, and return whether the check failed and its evaluation before did not."""
        was_red = check in self.red
        if passed and was_red:
            self.red.remove(check)
        if not passed and not was_red:
            self.red.append(check)
        return not passed and not was_red

    def unserved_events(self, needs: Mapping[str, str], now_us: int) -> list[Event]:
        """Return an event for each queue that has needed a run for ``UNSERVED_SECONDS``, once until it is served.

        Args:
            needs: queue → what it needs, for the queues that no run serves.
            now_us: current time, microseconds since the epoch.
        """
        self.unserved = {name: self.unserved.get(name, Unserved(since=now_us)) for name in needs}
        events = []
        for name, state in self.unserved.items():
            seconds = (now_us - state.since) / MICROSECONDS
            if seconds >= UNSERVED_SECONDS and not state.is_notified:
                state.is_notified = True
                text = f"queue not served for {seconds:.0f} s: {name}: {needs[name]}"
                events.append(Event(kind="queue_not_served", text=text))
        return events


def receiver_names(urls: Sequence[str]) -> list[str]:
    """Return a name for each URL, from its place and scheme; other parts of a URL may be secret."""
    return [f"receiver {place} ({url.partition('://')[0]})" for place, url in enumerate(urls, start=1)]


def deliver(
    state: NotificationState, events: Sequence[Event], settings: Settings, now_us: int, send: Send
) -> list[str]:
    """Send the waiting and the new events to each receiver that may get a message now, and return what happened.

    Args:
        state: state, which is updated.
        events: new events.
        settings: provide the receivers and the interval between two messages.
        now_us: current time, microseconds since the epoch.
        send: sends one message.
    """
    urls = settings.notification_urls
    named = dict(zip(receiver_names(urls), urls, strict=True))
    state.receivers = {name: state.receivers.get(name, Receiver()) for name in named}
    for receiver in state.receivers.values():
        receiver.add(events)
    outcomes, failed = [], 0
    for name, receiver in state.receivers.items():
        if not receiver.waiting or failed == _FAILURES_AT_ONCE:
            continue
        if now_us < receiver.next_at:
            outcomes.append(_waits(name, receiver))
            continue
        sent = f"sent {_counted(receiver.waiting)} to {name} in one message"
        error = send(named[name], title(settings.tenant, receiver), body(receiver))
        _record(receiver, error, settings.notify_min_interval_seconds, now_us)
        failed += error is not None
        outcomes.append(sent if error is None else _waits(name, receiver))
    return outcomes


def title(tenant: str, receiver: Receiver) -> str:
    return f"surveillance, tenant {tenant}: {_counted(receiver.waiting)}"


def body(receiver: Receiver) -> str:
    """Return the text of a message: the number of events of each kind, and the first of them."""
    totals = ", ".join(f"{count} {_NOUNS[kind][count != 1]}" for kind, count in receiver.counts.items())
    more = receiver.waiting - len(receiver.lines)
    return "\n".join([totals, *receiver.lines, *([f"… and {more} more"] if more else [])])


def notification_fact(settings: Settings, cursor: str | None) -> Fact:
    """Return the line *notifications* of the status, from the cursor of the sensor."""
    if not settings.notification_urls:
        return Fact("notifications", "ok", "off (NOTIFY_URLS is not set)")
    receivers = NotificationState.load(cursor).receivers
    names = receiver_names(settings.notification_urls)
    failing = [_waits(name, receivers[name]) for name in names if name in receivers and receivers[name].failures]
    if failing:
        remedy = "check the URLs of NOTIFY_URLS; waiting events are sent when a receiver accepts them"
        return Fact("notifications", "warn", "; ".join(failing), remedy)
    return Fact("notifications", "ok", f"{', '.join(settings.notify_on)} to {', '.join(names)}")


def _record(receiver: Receiver, error: str | None, interval_seconds: float, now_us: int) -> None:
    pause = interval_seconds
    if error is None:
        receiver.counts, receiver.lines = {}, []
        receiver.failures, receiver.error = 0, ""
    else:
        receiver.failures, receiver.error, receiver.failed_at = receiver.failures + 1, error, now_us
        pause = min(_FIRST_RETRY_SECONDS * 2 ** min(receiver.failures - 1, 10), _LONGEST_RETRY_SECONDS)
    receiver.next_at = now_us + round(pause * MICROSECONDS)


def _waits(name: str, receiver: Receiver) -> str:
    verb = "waits" if receiver.waiting == 1 else "wait"
    until = f"{_counted(receiver.waiting)} {verb} until {instant(to_datetime(receiver.next_at))}"
    if not receiver.failures:
        return f"{name}: {until} (NOTIFY_MIN_INTERVAL_SECONDS)"
    times = "once" if receiver.failures == 1 else f"{receiver.failures} times"
    failed = f"failed {times}, last at {instant(to_datetime(receiver.failed_at))}: {receiver.error}"
    return f"{name} {failed}; {until}"


def _counted(count: int) -> str:
    return f"{count} event" if count == 1 else f"{count} events"
