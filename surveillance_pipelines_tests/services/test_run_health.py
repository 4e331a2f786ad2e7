"""Judgement of runs, checks and the daemon."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from surveillance_pipelines.services.facts import Fact
from surveillance_pipelines.services.run_health import (
    ActiveRun,
    CheckState,
    DagsterState,
    FailedRun,
    FailedTick,
    dagster_facts,
)
from surveillance_pipelines.settings import Settings

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SETTINGS = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
NOTHING = DagsterState(failed=(), active=(), checks=(), ticks=(), heartbeat=NOW - timedelta(seconds=5), now=NOW)
FAILED = FailedRun(
    run_id="0123456789ab",
    job="training_job",
    scope="",
    error="gate: ValueError: too little data",
    failed_at=NOW - timedelta(hours=2),
    is_superseded=False,
)


def degraded(state: DagsterState) -> list[Fact]:
    return [fact for fact in dagster_facts(state, SETTINGS) if fact.verdict != "ok"]


def test_instance_without_problems_has_only_ok_lines():
    assert degraded(NOTHING) == []
    assert [fact.name for fact in dagster_facts(NOTHING, SETTINGS)] == [
        "failed runs", "stuck runs", "asset checks", "daemon",
    ]  # fmt: skip


def test_failed_run_is_named_with_job_id_and_error():
    (found,) = degraded(replace(NOTHING, failed=(FAILED,)))
    assert (found.name, found.verdict) == ("failed training_job", "fail")
    assert found.found == "run 01234567 at 2026-03-02 10:00:00: gate: ValueError: too little data"
    assert "Runs, id 01234567" in found.remedy


def test_failures_of_one_cause_are_one_line_with_their_number():
    runs = tuple(replace(FAILED, run_id=f"{number:08d}") for number in range(5))
    other = replace(FAILED, error="load: KeyError: 'close'")
    causes = degraded(replace(NOTHING, failed=(*runs, other)))
    assert [fact.found.partition(" at ")[0] for fact in causes] == ["5 times, last in run 00000000", "run 01234567"]


def test_interrupted_run_is_a_warning_until_its_job_succeeds():
    run = replace(FAILED, error="marts: interrupted before its end", is_interrupted=True)
    (found,) = degraded(replace(NOTHING, failed=(run,)))
    assert (found.name, found.verdict) == ("interrupted training_job", "warn")
    assert "because its process was told to stop" in found.found
    assert degraded(replace(NOTHING, failed=(replace(run, is_superseded=True),))) == []


@pytest.mark.parametrize("job", ["drain_job", "delivery_job"])
def test_interrupted_run_that_its_sensor_starts_again_has_no_line(job):
    run = replace(FAILED, job=job, scope="ticks.fifo", error="drain: interrupted before its end", is_interrupted=True)
    assert degraded(replace(NOTHING, failed=(run,))) == []
    (failed,) = degraded(replace(NOTHING, failed=(run, replace(run, is_interrupted=False))))
    assert (failed.name, failed.verdict) == (f"failed {job}", "fail")


@pytest.mark.parametrize(("count", "text"), [(0, "none; no run is active"), (1, "none; 1 active run")])
def test_no_stuck_run_is_said_with_the_number_of_active_runs(count, text):
    active = (ActiveRun("0123456789ab", "drain_job", "started", NOW),) * count
    found = {fact.name: fact.found for fact in dagster_facts(replace(NOTHING, active=active), SETTINGS)}
    assert found["stuck runs"] == text


@pytest.mark.parametrize(("age", "verdicts"), [(timedelta(hours=2), ["warn"]), (timedelta(days=2), [])])
def test_failure_before_a_success_is_a_warning_for_a_day(age, verdicts):
    run = replace(FAILED, is_superseded=True, failed_at=NOW - age)
    found = degraded(replace(NOTHING, failed=(run,)))
    assert [fact.verdict for fact in found] == verdicts
    assert all(fact.found.endswith("a later run succeeded") and not fact.remedy for fact in found)


@pytest.mark.parametrize(
    ("job", "status", "minutes", "verdict"),
    [
        ("drain_job", "started", 14, None),  # a standby waits a window of 5 minutes and serves another
        ("drain_job", "started", 16, "fail"),
        ("training_job", "started", 60, None),
        ("training_job", "started", 120, "fail"),
        ("bars_job", "started", 20 * 60, None),
        ("bars_job", "started", 25 * 60, "warn"),
        ("bars_job", "starting", 5, "fail"),
        ("bars_job", "canceling", 3, "fail"),
        ("bars_job", "queued", 9, None),
        ("bars_job", "queued", 11, "warn"),
    ],
)
def test_run_is_stuck_when_it_lasts_longer_than_possible(job, status, minutes, verdict):
    run = ActiveRun("0123456789ab", job, status, NOW - timedelta(minutes=minutes))
    assert [fact.verdict for fact in degraded(replace(NOTHING, active=(run,)))] == ([verdict] if verdict else [])


def test_run_without_process_is_stuck_at_once_and_says_why():
    run = ActiveRun("0123456789ab", "drain_job", "started", NOW, process_problem="the process 7 of the run has ended")
    (found,) = degraded(replace(NOTHING, active=(run,)))
    assert (found.name, found.verdict) == ("stuck drain_job", "fail")
    assert found.found.endswith("the process 7 of the run has ended")


def test_red_checks_are_named_with_their_description():
    red = CheckState(
        asset="market_queue",
        check="few_dead",
        passed=False,
        is_error=False,
        description="3% are dead",
        evaluated_at=NOW,
    )
    states = (red, replace(red, check="balance", is_error=True), replace(red, check="fresh", passed=True))
    found = degraded(replace(NOTHING, checks=states))
    assert [(fact.name, fact.verdict) for fact in found] == [
        ("check market_queue: few_dead", "warn"),
        ("check market_queue: balance", "fail"),
    ]
    assert found[0].found == "failed at 2026-03-02 12:00:00: 3% are dead"


def test_failed_sensor_is_a_failure():
    (found,) = degraded(replace(NOTHING, ticks=(FailedTick("market_queue_sensor", "KeyError: 'x'", NOW),)))
    assert (found.name, found.verdict) == ("automation market_queue_sensor", "fail")


def test_daemon_that_stopped_is_a_warning_and_one_that_never_ran_is_none():
    (found,) = degraded(replace(NOTHING, heartbeat=NOW - timedelta(minutes=5)))
    assert (found.name, found.verdict) == ("daemon", "warn")
    assert found.found.startswith("stopped: last heartbeat 2026-03-02 11:55:00")
    assert degraded(replace(NOTHING, heartbeat=None)) == []
