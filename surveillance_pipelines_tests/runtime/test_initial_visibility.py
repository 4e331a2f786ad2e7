"""The initial visibility timeout while the queue answers late."""

from surveillance_pipelines.clock import MICROSECONDS
from surveillance_pipelines.runtime.initial_visibility import KEPT_SECONDS, InitialVisibility

NOW = 1_000 * MICROSECONDS


def test_timeout_grows_with_each_late_answer_up_to_the_longest():
    visibility = InitialVisibility(shortest=1, longest=60)
    found = []
    for _ in range(4):
        visibility.lengthen(visibility.seconds, NOW)
        found.append(visibility.seconds)
    assert found == [4, 16, 60, 60]


def test_messages_received_with_a_shorter_timeout_do_not_lengthen_it_again():
    visibility = InitialVisibility(shortest=1, longest=60)
    assert visibility.lengthen(1, NOW)
    assert not visibility.lengthen(1, NOW), "received before the timeout became longer"
    assert visibility.seconds == 4


def test_timeout_is_short_again_after_a_while_without_late_answers():
    visibility = InitialVisibility(shortest=1, longest=60)
    visibility.lengthen(1, NOW)
    later = NOW + round(KEPT_SECONDS * MICROSECONDS)
    assert not visibility.shorten(later - 1)
    assert visibility.shorten(later)
    assert visibility.seconds == 1
    assert not visibility.shorten(later), "unchanged"


def test_timeout_is_kept_while_messages_may_be_hidden_for_so_long():
    visibility = InitialVisibility(shortest=1, longest=600)
    visibility.inherit(600, NOW)
    visibility.keep(NOW + MICROSECONDS)
    assert not visibility.shorten(NOW + 600 * MICROSECONDS)
    assert visibility.shorten(NOW + 601 * MICROSECONDS)


def test_inherited_timeout_above_the_longest_is_not_shortened_by_a_late_answer():
    visibility = InitialVisibility(shortest=1, longest=60)
    visibility.inherit(120, NOW)
    assert not visibility.lengthen(120, NOW)
    assert visibility.seconds == 120


def test_timeout_of_the_previous_holder_is_kept_for_a_while():
    visibility = InitialVisibility(shortest=1, longest=60)
    visibility.inherit(16, NOW)
    assert visibility.seconds == 16
    assert not visibility.shorten(NOW + MICROSECONDS)
    visibility.inherit(0, NOW)
    assert visibility.seconds == 1
