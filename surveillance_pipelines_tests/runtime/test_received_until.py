"""What the answers of a queue prove about messages that may still wait."""

from dataclasses import replace

import pytest

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.contracts.queue import Poll
from surveillance_pipelines.engine.event_clock import ClockReading
from surveillance_pipelines.runtime.received_until import ReceivedUntil
from surveillance_pipelines_tests.engine.market import received, ticks

NOW = 1_000 * MICROSECONDS
NOBODY = frozenset[str]()
HIDDEN_SECONDS = 2


@pytest.fixture
def received_until() -> ReceivedUntil:
    """Return the state of a run that has received answers for longer than a visibility timeout."""
    state = ReceivedUntil()
    state.lose(HIDDEN_SECONDS)  # by an earlier run
    assert state.reading(Poll([], NOW - 4 * MICROSECONDS), NOBODY) is None
    assert state.reading(Poll([], NOW - MICROSECONDS), NOBODY) is not None
    return state


def messages(*ages: float) -> list:
    return [replace(received(ticks(1)[i], i), sent_at=NOW - round(age * MICROSECONDS)) for i, age in enumerate(ages)]


def test_empty_answer_proves_all_groups_but_those_in_progress(received_until):
    assert received_until.reading(Poll([], NOW), frozenset({"SPY"})) == ClockReading(NOW, frozenset({"SPY"}))


def test_fresh_messages_prove_the_time_before_them_for_other_groups(received_until):
    batch = messages(0.1, 0.9)
    reading = received_until.reading(Poll(batch, NOW), frozenset({"XYZ"}))
    assert reading == ClockReading(NOW - MICROSECONDS, frozenset({"XYZ", *(m.group_id for m in batch)}))


def test_answer_of_a_backlog_proves_nothing(received_until):
    assert received_until.reading(Poll(messages(0.1, 1.1), NOW), NOBODY) is None


def test_lost_answer_hides_messages_for_the_visibility_timeout_and_the_resolution_of_the_clock(received_until):
    received_until.lose(HIDDEN_SECONDS)
    assert received_until.reading(Poll([], NOW), NOBODY) is None
    assert received_until.reading(Poll([], NOW + 2 * MICROSECONDS), NOBODY) is None
    known_from = NOW + 3 * MICROSECONDS
    assert received_until.reading(Poll([], known_from), NOBODY) == ClockReading(known_from)


def test_later_loss_of_a_shorter_time_does_not_shorten_an_earlier_one(received_until):
    received_until.lose(60)
    assert received_until.reading(Poll([], NOW), NOBODY) is None
    received_until.lose(1)
    assert received_until.reading(Poll([], NOW + 5 * MICROSECONDS), NOBODY) is None
    assert not received_until.is_known(NOW + 60 * MICROSECONDS)
    assert received_until.is_known(NOW + 61 * MICROSECONDS)
