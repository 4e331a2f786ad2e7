"""Which notifications are sent, and when: over a real HTTP receiver."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.services.doctor import check_receivers
from surveillance_pipelines.services.notification_sending import send, understands
from surveillance_pipelines.services.notifications import (
    Event,
    NotificationState,
    deliver,
    notification_fact,
)
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines_tests.services.receivers import SECRET, HttpReceiver, http_receiver

START = 1_772_000_000 * MICROSECONDS
NO_SERVER = "json://user:hunter2@127.0.0.1:1/hunter2"


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


@pytest.fixture
def root_log() -> Iterator[list[str]]:
    """What reaches the handlers of the root logger, which print or store it."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, root = Handler(), logging.getLogger()
    root.addHandler(handler)
    yield lines
    root.removeHandler(handler)


def settings_of(*urls: str, **values: Any) -> Settings:
    given = {"notify_urls": SecretStr(",".join(urls)) if urls else None, **values}
    return Settings(_env_file=None, **given)  # pyright: ignore[reportCallIssue]


def runs(count: int) -> list[Event]:
    return [Event(kind="failed_run", text=f"failed run: training_job {number}") for number in range(count)]


def at(seconds: float) -> int:
    return START + round(seconds * MICROSECONDS)


def test_fifty_events_make_one_message_with_their_number(receiver):
    state, settings = NotificationState(), settings_of(receiver.url)
    alerts = [Event(kind="alert", text="alert: volume_spike AAPL")] * 2
    assert deliver(state, [*runs(48), *alerts], settings, at(0), send) == [
        "sent 50 events to receiver 1 (json) in one message"
    ]
    (message,) = receiver.messages
    assert message["title"] == "surveillance, tenant default: 50 events"
    lines = message["message"].splitlines()
    assert lines[0] == "48 failed runs, 2 alerts"
    assert lines[1] == "failed run: training_job 0"
    assert (len(lines), lines[-1]) == (12, "… and 40 more")


def test_events_within_the_interval_wait_and_are_counted_in_the_next_message(receiver):
    settings, cursor = settings_of(receiver.url, notify_min_interval_seconds=60), ""
    for second in range(0, 62, 2):  # a new process at each step: only the cursor is kept
        state = NotificationState.load(cursor)
        deliver(state, runs(1), settings, at(second), send)
        cursor = state.model_dump_json()
    assert receiver.titles == ["surveillance, tenant default: 1 event", "surveillance, tenant default: 30 events"]


def test_waiting_events_are_explained(receiver):
    state, settings = NotificationState(), settings_of(receiver.url)
    deliver(state, runs(1), settings, at(0), send)
    (outcome,) = deliver(state, runs(2), settings, at(10), send)
    assert outcome == "receiver 1 (json): 2 events wait until 2026-02-25 06:18:20 (NOTIFY_MIN_INTERVAL_SECONDS)"
    assert len(receiver.messages) == 1


def test_no_event_sends_nothing(receiver):
    assert deliver(NotificationState(), [], settings_of(receiver.url), at(0), send) == []
    assert receiver.attempts == 0


def test_receiver_that_fails_delays_no_other_and_gets_everything_later(receiver):
    state, settings = NotificationState(), settings_of(receiver.url, NO_SERVER, notify_min_interval_seconds=1)
    receiver.status = 500
    failed, absent = deliver(state, runs(3), settings, at(0), send)
    assert "receiver 1 (json) failed once" in failed
    assert "the receiver answered with status 500; 3 events wait" in failed
    assert "receiver 2 (json) failed once" in absent
    assert "no connection to the receiver" in absent
    found = notification_fact(settings, state.model_dump_json())
    assert (found.verdict, "status 500" in found.found) == ("warn", True)
    receiver.status = 200
    deliver(state, runs(1), settings, at(30), send)
    assert receiver.messages == [], "the pause after a failure"
    deliver(state, [], settings, at(61), send)
    assert receiver.titles == ["surveillance, tenant default: 4 events"]
    assert state.receivers["receiver 2 (json)"].failures == 2


def test_pauses_after_failures_grow_up_to_an_hour():
    state, settings, now_us = NotificationState(), settings_of("json://host"), at(0)
    pauses = []
    for _ in range(9):
        deliver(state, runs(1), settings, now_us, lambda *_: "refused")
        next_at = state.receivers["receiver 1 (json)"].next_at
        pauses.append((next_at - now_us) // MICROSECONDS)
        now_us = next_at
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert state.receivers["receiver 1 (json)"].waiting == 9


def test_no_more_than_three_receivers_fail_in_one_evaluation():
    state, settings = NotificationState(), settings_of(*["json://host"] * 5)
    attempts: list[str] = []

    def refuse(url: str, *_: str) -> str:
        attempts.append(url)
        return "refused"

    deliver(state, runs(1), settings, at(0), refuse)
    assert len(attempts) == 3
    deliver(state, [], settings, at(1), refuse)
    assert len(attempts) == 5


@pytest.mark.requirement("SEC-09")
def test_no_secret_of_a_url_is_shown(receiver, root_log, capfd):
    state = NotificationState()
    settings = settings_of(receiver.url, NO_SERVER, f"nosuch://{SECRET}", f"json://{SECRET}:port")
    receiver.status = 403
    outcomes = deliver(state, runs(1), settings, at(0), send)
    outcomes += deliver(state, runs(1), settings, at(1), send)
    found = check_receivers(Platform(settings))
    assert [one.verdict for one in found] == ["ok", "ok", "fail", "fail"]
    assert "not a URL of a receiver that Apprise knows" in str(outcomes)
    told = [str(outcomes), str(found), state.model_dump_json(), repr(settings), settings.model_dump_json()]
    told += [str(notification_fact(settings, state.model_dump_json())), *capfd.readouterr()]
    told += root_log
    assert SECRET not in "\n".join(told)


def test_urls_are_understood_without_sending(receiver):
    assert understands(receiver.url)
    assert not understands("nosuch://host")
    assert receiver.attempts == 0


def test_red_check_is_an_event_when_it_turns_red():
    state = NotificationState()
    verdicts = (False, False, True, False)
    assert [state.turned_red("a: fresh", passed=passed) for passed in verdicts] == [True, False, False, True]


def test_queue_is_an_event_once_until_it_is_served_again():
    state, needs = NotificationState(), {"q.fifo": "4 messages wait"}
    assert state.unserved_events(needs, at(0)) == []
    assert state.unserved_events(needs, at(119)) == []
    (event,) = NotificationState.load(state.model_dump_json()).unserved_events(needs, at(120))
    assert event.text == "queue not served for 120 s: q.fifo: 4 messages wait"
    state.unserved_events(needs, at(120))
    assert state.unserved_events(needs, at(500)) == []
    state.unserved_events({}, at(501))
    assert state.unserved_events(needs, at(600)) == []
    assert len(state.unserved_events(needs, at(720))) == 1


def test_keys_are_new_once_also_after_a_restart():
    state = NotificationState()
    assert state.unseen("alert", ["a", "b", "a"]) == {"a", "b"}
    assert NotificationState.load(state.model_dump_json()).unseen("alert", ["b", "c"]) == {"c"}


def test_cursor_of_another_version_starts_anew():
    assert NotificationState.load('{"positions": "x"}') == NotificationState()
