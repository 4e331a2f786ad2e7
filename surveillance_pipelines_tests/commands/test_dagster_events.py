"""The event log of a run, read while its steps run."""

from pathlib import Path

import dagster as dg

from surveillance_pipelines.commands.dagster_events import RunWatch


def test_run_watch_within_a_step_names_that_step_not_the_one_before(tmp_path: Path) -> None:
    seen: list[tuple[list[str], list[str], int]] = []

    def look(context: dg.OpExecutionContext) -> None:
        watch = RunWatch(context.instance, context.run_id)
        watch.poll()
        seen.append((watch.running, watch.done, watch.steps))

    @dg.op
    def first(context: dg.OpExecutionContext) -> int:
        look(context)
        return 1

    @dg.op
    def second(context: dg.OpExecutionContext, number: int) -> None:
        look(context)
        raise dg.Failure(f"expected a failure after {number}")

    @dg.job
    def two_steps() -> None:
        second(first())

    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        result = two_steps.execute_in_process(instance=instance, raise_on_error=False)
        ended = RunWatch(instance, result.run_id)
        ended.poll()
    assert seen == [(["first"], [], 2), (["second"], ["first"], 2)]
    assert (ended.running, ended.done) == ([], ["first", "second"])


def test_run_watch_of_a_step_that_is_retried_names_it_once(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    @dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
    def flaky(context: dg.OpExecutionContext) -> None:
        watch = RunWatch(context.instance, context.run_id)
        watch.poll()
        seen.append(watch.running)
        if context.retry_number == 0:
            raise OSError("expected to fail once")

    @dg.job
    def retried() -> None:
        flaky()

    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        assert retried.execute_in_process(instance=instance).success
    assert seen == [["flaky"], ["flaky"]]
