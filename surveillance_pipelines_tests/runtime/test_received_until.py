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
    assert state.reading(Poll([], NOW - 3 * MICROSECONDS), NOBODY, HIDDEN_SECONDS) is None, (
        "an earlier run may hide messages"
    )
    assert state.reading(Poll([], NOW - MICROSECONDS), NOBODY, HIDDEN_SECONDS) is not None
    return state


def messages(*ages: float) -> list:
    return [replace(received(ticks(1)[i], i), sent_at=NOW - round(age * MICROSECONDS)) for i, age in enumerate(ages)]


def test_empty_answer_proves_all_groups_but_those_in_progress(received_until):
    assert received_until.reading(Poll([], NOW), frozenset({"SPY"}), HIDDEN_SECONDS) == ClockReading(
        NOW, frozenset({"SPY"})
    )


def test_fresh_messages_prove_the_time_before_them_for_other_groups(received_until):
    batch = messages(0.1, 0.9)
    reading = received_until.reading(Poll(batch, NOW), frozenset({"XYZ"}), HIDDEN_SECONDS)
    assert reading == ClockReading(NOW - MICROSECONDS, frozenset({"XYZ", *(m.group_id for m in batch)}))


def test_answer_of_a_backlog_proves_nothing(received_until):
    assert received_until.reading(Poll(messages(0.1, 1.1), NOW), NOBODY, HIDDEN_SECONDS) is None


@pytest.mark.parametrize("attempts", [1, 2])
def test_lost_answer_hides_messages_for_the_visibility_timeout(received_until, attempts):
    if attempts == 1:
        received_until.lose(HIDDEN_SECONDS)
    assert received_until.reading(Poll([], NOW, attempts), NOBODY, HIDDEN_SECONDS) is None
    assert received_until.reading(Poll([], NOW + MICROSECONDS), NOBODY, HIDDEN_SECONDS) is None
    assert received_until.reading(Poll([], NOW + 2 * MICROSECONDS), NOBODY, HIDDEN_SECONDS) == ClockReading(
        NOW + 2 * MICROSECONDS
    )


def test_messages_that_another_run_keeps_hidden_are_waited_for(received_until):
    received_until.lose(10)
    assert received_until.reading(Poll([], NOW), NOBODY, HIDDEN_SECONDS) is None
    assert received_until.reading(Poll([], NOW + 9 * MICROSECONDS), NOBODY, HIDDEN_SECONDS) is None
    assert received_until.reading(Poll([], NOW + 10 * MICROSECONDS), NOBODY, HIDDEN_SECONDS) is not None
