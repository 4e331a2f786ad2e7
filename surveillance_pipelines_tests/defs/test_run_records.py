"""What is read from a real instance about runs, checks and automations."""

import subprocess
import sys
from typing import Any

import dagster as dg
import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK, now
from surveillance_pipelines.defs.run_errors import innermost_line
from surveillance_pipelines.defs.run_processes import MACHINE_TAG, PROCESS_TAG, machine
from surveillance_pipelines.defs.run_records import active_runs, check_states, dagster_state, failed_runs
from surveillance_pipelines.defs.serving.queues import QUEUE_TAG
from surveillance_pipelines.services.run_health import FailedRun


@dg.op(config_schema={"fails": bool})
def work(context: dg.OpExecutionContext) -> None:
    if not context.op_config["fails"]:
        return
    cause = ValueError("expected a market at postgresql://user:hunter2@host/db,\nfound none")
    raise RuntimeError("the step failed") from cause


@dg.job
def fragile_job() -> None:
    work()


@dg.op
def stop() -> None:
    raise dg.DagsterExecutionInterruptedError


@dg.job
def stopped_job() -> None:
    stop()


@dg.asset(config_schema={"fails": bool})
def fragile_asset(context: dg.AssetExecutionContext) -> None:
    if context.op_execution_context.op_config["fails"]:
        raise ValueError("expected a market, found none")


def run(instance: dg.DagsterInstance, *, fails: bool, queue: str = "") -> str:
    config = {"ops": {"work": {"config": {"fails": fails}}}}
    tags = {QUEUE_TAG: queue} if queue else {}
    result = fragile_job.execute_in_process(instance=instance, run_config=config, tags=tags, raise_on_error=False)
    return result.run_id


def failures(instance: dg.DagsterInstance) -> list[FailedRun]:
    return list(failed_runs(instance, now(SYSTEM_CLOCK)))


def test_failed_run_has_the_first_line_of_its_cause_without_secrets(instance):
    run_id = run(instance, fails=True)
    (found,) = failures(instance)
    assert (found.run_id, found.job, found.is_superseded) == (run_id, "fragile_job", False)
    assert found.error == "work: ValueError: expected a market at postgresql://user:[redacted]@host/db,"


def test_line_of_a_declared_failure_has_its_message_only():
    assert (
        innermost_line(["a: x", "check: dagster._core.definitions.events.Failure: too few\nrows"]) == "check: too few"
    )


def test_line_of_a_failed_dbt_build_says_where_its_cause_is():
    error = (
        "marts: dagster_dbt.errors.DagsterDbtCliRuntimeError: The dbt CLI process with command\n\n`dbt build`\n\n"
        "failed with exit code `1`. Check the stdout in the Dagster compute logs."
    )
    assert innermost_line([error]) == (
        "marts: dbt failed with exit code `1`; the output of the run names the models and tests"
    )


def test_failed_run_is_superseded_by_a_success_of_the_same_queue_only(instance):
    run(instance, fails=True, queue="a")
    run(instance, fails=True, queue="b")
    run(instance, fails=False, queue="b")
    assert [(found.scope, found.is_superseded) for found in failures(instance)] == [("b", True), ("a", False)]


def test_run_whose_process_was_told_to_stop_is_interrupted(instance):
    result = stopped_job.execute_in_process(instance=instance, raise_on_error=False)
    (found,) = failures(instance)
    assert (found.run_id, found.is_interrupted) == (result.run_id, True)
    assert found.error == "stop: interrupted before its end"


def test_run_of_selected_assets_is_named_by_them_and_superseded_by_their_materialization(instance):
    job = dg.Definitions(assets=[fragile_asset]).resolve_implicit_global_asset_job_def()
    selected = [fragile_asset.key]

    def materialize(*, fails: bool) -> None:
        config = {"ops": {"fragile_asset": {"config": {"fails": fails}}}}
        job.execute_in_process(instance=instance, run_config=config, asset_selection=selected, raise_on_error=False)

    materialize(fails=True)
    (found,) = failures(instance)
    assert (found.job, found.scope, found.is_superseded) == ("asset run", "fragile_asset", False)
    materialize(fails=False)
    assert [run.is_superseded for run in failures(instance)] == [True]


def test_run_that_was_reported_as_failed_has_that_message(instance):
    broken = dg.DagsterRun(job_name="j", status=dg.DagsterRunStatus.STARTED)
    instance.add_run(broken)
    instance.report_run_failed(broken, "the process 7 of the run has ended.")
    assert failures(instance)[0].error == "the process 7 of the run has ended."


def test_active_runs_tell_which_have_no_process(instance):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    tags = {MACHINE_TAG: machine(), PROCESS_TAG: str(process.pid)}
    instance.add_run(dg.DagsterRun(job_name="gone", tags=tags, status=dg.DagsterRunStatus.STARTED))
    instance.add_run(dg.DagsterRun(job_name="waits", tags=tags, status=dg.DagsterRunStatus.NOT_STARTED))
    instance.add_run(dg.DagsterRun(job_name="elsewhere", status=dg.DagsterRunStatus.STARTED))
    found = {active.job: active for active in active_runs(instance)}
    assert "has ended without a report" in str(found["gone"].process_problem)
    assert (found["waits"].status, found["waits"].process_problem) == ("queued", None)
    assert found["elsewhere"].process_problem is None


VERDICTS = {"fresh": True, "sound": True}


@dg.asset_check(asset="a", description="The asset is fresh.")
def fresh() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=VERDICTS["fresh"], severity=dg.AssetCheckSeverity.WARN, description="two days old\nsecret=hunter2"
    )


@dg.asset_check(asset="a", description="The asset is sound.")
def sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=VERDICTS["sound"])


def evaluate(instance: dg.DagsterInstance, **verdicts: bool) -> None:
    VERDICTS.update(verdicts)
    job: Any = dg.define_asset_job("checks", selection=dg.AssetSelection.all_asset_checks())
    definitions = dg.Definitions(assets=[dg.AssetSpec("a")], asset_checks=[fresh, sound], jobs=[job])
    definitions.resolve_job_def("checks").execute_in_process(instance=instance)


def test_check_states_are_the_latest_evaluations(instance):
    evaluate(instance, fresh=True, sound=False)
    evaluate(instance, fresh=False, sound=True)
    found = {state.check: state for state in check_states(instance, now(SYSTEM_CLOCK))}
    assert {name: state.passed for name, state in found.items()} == {"fresh": False, "sound": True}
    assert found["fresh"].name == "a: fresh"
    assert found["fresh"].description == "two days old secret=[redacted]"
    assert not found["fresh"].is_error


@pytest.mark.parametrize("source", ["dagster_url"])
def test_state_of_an_empty_postgresql_instance_is_read(source, request, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_DATABASE_URL", request.getfixturevalue(source))
    (tmp_path / "dagster.yaml").write_text((repository / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as postgres:
        evaluate(postgres, fresh=False, sound=True)
        run(postgres, fails=True)
        state = dagster_state(postgres, SYSTEM_CLOCK.now_us())
    assert [found.job for found in state.failed] == ["fragile_job"]
    assert {found.check: found.passed for found in state.checks} == {"fresh": False, "sound": True}
    assert (state.active, state.ticks, state.heartbeat) == ((), (), None)
