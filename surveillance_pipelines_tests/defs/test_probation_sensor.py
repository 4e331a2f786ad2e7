"""The sensor that requests the looks of a probation, and the check that judges."""

from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from surveillance_pipelines.defs.models.checks import champion_keeps_its_promises
from surveillance_pipelines.defs.models.sensors import champion_probation_sensor
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.services import probation
from surveillance_pipelines_tests.defs.runs import check_of, run_job


def look(number: int) -> Any:
    return SimpleNamespace(
        champion=SimpleNamespace(name="v2"), look=number, bars=390 * number, key=f"2b1c:2024-03-05:{number}"
    )


def evaluate(platform: PlatformResource, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"platform": platform})
    return champion_probation_sensor(context)


def test_champion_probation_sensor_without_a_champion_says_so(platform: PlatformResource, instance: dg.DagsterInstance):
    assert evaluate(platform, instance).skip_message == "no champion on probation"
    result: Any = champion_keeps_its_promises(platform)
    assert (result.passed, result.description) == (True, "no champion on probation")


def test_champion_probation_sensor_requests_one_run_per_look(
    platform: PlatformResource, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(probation, "champion_probation", lambda _stores: look(0))
    assert evaluate(platform, instance).skip_message == "champion v2: 0 served bars, no new look"
    monkeypatch.setattr(probation, "champion_probation", lambda _stores: look(1))
    first = evaluate(platform, instance)
    assert [request.run_key for request in first.run_requests] == ["probation:2b1c:2024-03-05:1"]
    again = evaluate(platform, instance, first.cursor)
    assert again.skip_message == "champion v2: 390 served bars, no new look"
    monkeypatch.setattr(probation, "champion_probation", lambda _stores: look(2))
    assert len(evaluate(platform, instance, first.cursor).run_requests) == 1


def test_probation_job_runs_the_check(platform: PlatformResource, instance: dg.DagsterInstance):
    result = run_job("probation_job", platform, instance)
    assert check_of(result, "champion_keeps_its_promises").passed
