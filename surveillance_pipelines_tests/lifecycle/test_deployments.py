"""Transitions between roles, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surveillance_pipelines.lifecycle.deployments import (
    VALID_TRANSITIONS,
    Deployment,
    Role,
    Scope,
    Transition,
    TransitionError,
    champion,
    plan,
)

AT = datetime(2024, 3, 4, 12, tzinfo=UTC)
MODELS = ("a" * 64, "b" * 64, "c" * 64)


def asked(number: int, role: Role, share: float | None = None, **changes) -> Transition:
    return Transition(
        model_id=MODELS[number - 1], version=f"v{number}", role=role, traffic_share=share, decided_by="test", **changes
    )


def after(current: list[Deployment], requested: Transition, at: datetime = AT) -> list[Deployment]:
    change = plan(current, requested, at)
    ended = {row.model for row in change.ended}
    return [row for row in current if row.model not in ended] + list(change.opened)


def roles(current: list[Deployment]) -> dict[str, Role]:
    return {row.name: row.role for row in current}


@pytest.fixture
def serving() -> list[Deployment]:
    """V1 serves, v2 is a challenger."""
    return after(after([], asked(1, "champion")), asked(2, "challenger", 0.2))


def test_valid_transitions_name_every_role():
    assert set(VALID_TRANSITIONS) == set(get_args(Role))
    assert all(role in get_args(Role) for allowed in VALID_TRANSITIONS.values() for role in allowed)


def test_promotion_of_a_challenger_retires_the_champion_in_the_same_change(serving):
    change = plan(serving, asked(2, "champion", reasons=("gate passed",)), AT + timedelta(hours=1))
    assert {(row.name, row.role, row.until) for row in change.ended} == {
        ("v1", "champion", AT + timedelta(hours=1)),
        ("v2", "challenger", AT + timedelta(hours=1)),
    }
    promoted, retired = change.opened
    assert (promoted.name, promoted.role, promoted.traffic_share, promoted.reasons) == (
        "v2", "champion", 1.0, ("gate passed",)
    )  # fmt: skip
    assert (retired.name, retired.role, retired.traffic_share, retired.since) == ("v1", "retired", 0.0, promoted.since)
    assert retired.reasons == ("replaced by v2",)


def test_retired_model_is_reinstated(serving):
    promoted = after(serving, asked(2, "champion"))
    assert roles(promoted) == {"v1": "retired", "v2": "champion"}
    assert roles(after(promoted, asked(1, "champion"))) == {"v1": "champion", "v2": "retired"}


def test_request_of_the_present_role_changes_nothing(serving):
    for request in (asked(1, "champion"), asked(2, "challenger", 0.2)):
        assert plan(serving, request, AT) == plan([], request, AT).__class__()


def test_versions_of_equal_data_are_two_models(serving):
    same_hash = replace(asked(3, "champion"), model_id=MODELS[0])
    assert roles(after(serving, same_hash)) == {"v1": "retired", "v2": "challenger", "v3": "champion"}


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        (asked(1, "shadow"), "to retired for v1, which is the champion in tenant 'default', .*got shadow"),
        (asked(3, "retired"), "to canary or challenger or .* for v3, which is not deployed .*got retired"),
        (asked(1, "retired"), "expected a champion to remain, got a request to retire the champion v1"),
        (asked(3, "champion", 0.5), "expected no traffic share for a champion model, got 0.5"),
        (asked(3, "shadow", 0.1), "expected no traffic share for a shadow model, got 0.1"),
        (asked(3, "canary"), "expected a traffic share above 0 and below 1 for a canary, got none"),
        (asked(3, "canary", 1.0), "expected a traffic share above 0 and below 1 for a canary, got 1"),
        (asked(3, "challenger", -0.1), "of at least 0 and below 1 for a challenger, got -0.1"),
        (asked(3, "challenger", float("nan")), "below 1 for a challenger, got nan"),
        (asked(3, "canary", 0.9), "of at most 1 together, got 1.1"),
    ],
)  # fmt: skip
def test_transition_that_is_not_allowed_says_what_was_expected(serving, requested, message):
    with pytest.raises(TransitionError, match=message):
        plan(serving, requested, AT)


def test_champion_may_be_retired_without_a_successor_only_if_asked(serving):
    left = after(serving, asked(1, "retired", leave_no_champion=True))
    assert champion(left) is None
    assert roles(left) == {"v1": "retired", "v2": "challenger"}


def test_instant_before_the_newest_row_is_moved_to_it(serving):
    change = plan(serving, asked(2, "champion"), AT - timedelta(minutes=5))
    assert {row.since for row in change.opened} == {AT}
    assert {row.until for row in change.ended} == {AT}


def test_rows_of_another_scope_are_refused(serving):
    with pytest.raises(ValueError, match="expected open deployments of tenant 'acme'"):
        plan(serving, asked(1, "champion", scope=Scope(tenant="acme")), AT)


requests = st.builds(
    asked,
    st.integers(1, 3),
    st.sampled_from(get_args(Role)),
    st.sampled_from([None, 0.0, 0.3, 0.6]),
    leave_no_champion=st.booleans(),
)


@given(st.lists(requests, max_size=12))
def test_any_sequence_keeps_one_row_per_model_one_champion_and_shares_of_at_most_one(sequence):
    current: list[Deployment] = []
    for step, request in enumerate(sequence):
        had_champion = champion(current) is not None
        try:
            current = after(current, request, AT + timedelta(minutes=step))
        except TransitionError:
            continue
        assert len({row.model for row in current}) == len(current)
        assert sum(row.role == "champion" for row in current) <= 1
        assert champion(current) is not None or not had_champion or request.leave_no_champion
        assert sum(row.traffic_share for row in current if row.role in ("challenger", "canary")) <= 1 + 1e-9
