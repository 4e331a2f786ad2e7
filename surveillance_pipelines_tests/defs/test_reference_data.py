"""Instruments and sessions are there before the first message."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from surveillance_pipelines.defs.bars.sensors import AHEAD, reference_data_sensor
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.storage.sessions import last_sessions
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
    assert "AAPL" in str((before.run_requests or [])[0].run_key)

    result = run_job("reference_job", platform, instance)
    assert metadata_of(result, "instruments")["symbols"] == ", ".join(SYMBOLS)
    assert check_of(result, "sessions_reach_ahead").passed
    with platform.connect() as connection:
        assert last_sessions(connection)["XNYS"] > platform.today() + AHEAD
    assert isinstance(look(platform, instance), dg.SkipReason)


def test_reference_data_sensor_asks_once_a_day_for_the_same_lack(
    platform: PlatformResource, instance: dg.DagsterInstance
):
    first, second = look(platform, instance), look(platform, instance)
    assert isinstance(first, dg.SensorResult)
    assert isinstance(second, dg.SensorResult)
    assert [request.run_key for request in first.run_requests or []] == [
        request.run_key for request in second.run_requests or []
    ]
    assert timedelta(days=28) < AHEAD


def test_reference_job_gives_a_crypto_pair_the_calendar_that_never_closes(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SYMBOLS", "SPY,BTC-USD")
    run_job("reference_job", platform, instance)
    table = platform.session_table(platform.today(), platform.today())
    assert table.for_symbol("BTC-USD").is_open(platform.clock.now_us())
    assert table.for_symbol("SPY").calendar == "XNYS"
