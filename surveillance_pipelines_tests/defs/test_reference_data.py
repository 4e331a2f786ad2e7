"""Instruments and sessions are there before the first message."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from surveillance_pipelines.clock import ManualClock, now
from surveillance_pipelines.defs.bars.sensors import AHEAD, reference_data_sensor
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.stores.instruments import register_instruments
from surveillance_pipelines.stores.sessions import last_sessions
from surveillance_pipelines_tests.defs.conftest import SYMBOLS
from surveillance_pipelines_tests.defs.runs import check_of, metadata_of, run_job


def look(platform: PlatformResource, instance: dg.DagsterInstance) -> Any:
    return reference_data_sensor(dg.build_sensor_context(instance=instance, resources={"platform": platform}))


@pytest.mark.requirement("ING-11")
def test_reference_job_registers_symbols_and_makes_sessions_ahead(
    platform: PlatformResource, instance: dg.DagsterInstance
):
    before = look(platform, instance)
    assert isinstance(before, dg.SensorResult)
    assert "AAPL" in (before.run_requests or [])[0].tags["surveillance/reason"]

    result = run_job("reference_job", platform, instance)
    assert metadata_of(result, "instruments")["symbols"] == ", ".join(SYMBOLS)
    assert check_of(result, "sessions_reach_ahead").passed
    with platform.connect() as connection:
        assert last_sessions(connection)["XNYS"] > platform.today() + AHEAD
    assert isinstance(look(platform, instance), dg.SkipReason)


def ended_run(
    platform: PlatformResource, instance: dg.DagsterInstance, status: dg.DagsterRunStatus, tags: dict[str, str]
) -> None:
    """Put a reference run that has just ended on record."""
    run = dg.DagsterRun(job_name="reference_job", tags=tags, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    kind = "PIPELINE_SUCCESS" if status is dg.DagsterRunStatus.SUCCESS else "PIPELINE_FAILURE"
    instance.report_dagster_event(dg.DagsterEvent(kind, run.job_name, message="ended"), run.run_id)


def wait_of(platform: PlatformResource, instance: dg.DagsterInstance) -> str:
    outcome = look(platform, instance)
    assert isinstance(outcome, dg.SkipReason), outcome
    return str(outcome.skip_message)


def test_reference_data_sensor_after_a_failure_asks_again_later(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    ended_run(platform, instance, dg.DagsterRunStatus.FAILURE, {})
    assert "reference_job failed" in wait_of(platform, instance)
    clock = ManualClock(now())
    monkeypatch.setattr(PlatformResource, "clock", property(lambda _self: clock))
    clock.advance(11)
    (request,) = look(platform, instance).run_requests
    assert request.run_key is None, "a run key would keep a failed run from being started again"


def test_reference_data_sensor_while_a_run_is_under_way_waits(platform: PlatformResource, instance: dg.DagsterInstance):
    instance.add_run(dg.DagsterRun(job_name="reference_job", status=dg.DagsterRunStatus.STARTED))
    assert "reference_job is in progress" in wait_of(platform, instance)


def test_reference_data_sensor_asks_once_a_day_for_what_a_run_could_not_fill(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    (request,) = look(platform, instance).run_requests
    ended_run(platform, instance, dg.DagsterRunStatus.SUCCESS, dict(request.tags))
    assert "could not add them today" in wait_of(platform, instance)
    monkeypatch.setenv("SYMBOLS", "TSLA")
    assert isinstance(look(platform, instance), dg.SensorResult), "expected another lack to be asked for at once"
    monkeypatch.setenv("SYMBOLS", ",".join(SYMBOLS))
    clock = ManualClock(now() + timedelta(days=1))
    monkeypatch.setattr(PlatformResource, "clock", property(lambda _self: clock))
    assert isinstance(look(platform, instance), dg.SensorResult)


def test_reference_job_calendar_that_cannot_be_built_spares_the_others(
    platform: PlatformResource, instance: dg.DagsterInstance
):
    with platform.connect() as connection:
        register_instruments(connection, ("D05.SI",), "XSES", "test")
        register_instruments(connection, ("ODD",), "NO_SUCH_CALENDAR", "test")
    check = check_of(run_job("reference_job", platform, instance), "sessions_reach_ahead")
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert "NO_SUCH_CALENDAR" in str(check.description)
    with platform.connect() as connection:
        reach = last_sessions(connection)
    assert reach["XNYS"] > platform.today() + AHEAD
    assert "XSES" in reach


def test_reference_job_gives_a_crypto_pair_the_calendar_that_never_closes(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SYMBOLS", "SPY,BTC-USD")
    run_job("reference_job", platform, instance)
    table = platform.session_table(platform.today(), platform.today())
    assert table.for_symbol("BTC-USD").is_open(platform.clock.now_us())
    assert table.for_symbol("SPY").calendar == "XNYS"
