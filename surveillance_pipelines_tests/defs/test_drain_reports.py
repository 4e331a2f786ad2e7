"""What a drain run's reports leave in the event log."""

from collections.abc import Sequence
from typing import get_args

import dagster as dg
import pytest

from surveillance_pipelines.definitions import defs
from surveillance_pipelines.defs.resources import PlatformResource
from surveillance_pipelines.defs.serving import publication
from surveillance_pipelines.defs.serving.publication import EVALUATE_SECONDS, Publication, PublicationCheck
from surveillance_pipelines.defs.serving.reports import CONSERVATION, MESSAGES_PER_EVALUATION, STOP_TEXTS, log_report
from surveillance_pipelines.runtime.meter import DrainReport, Meter, StopReason


def taken(meter: Meter, *, anomalies: int, seconds: float) -> None:
    """Have the meter count micro-batches that opened an alert each."""
    for _ in range(anomalies):
        meter._totals.update({"messages": 2, "scored": 2, "finished": 2, "opened": 1})
        meter.observe("process", seconds)
        meter.observe("queue_to_queue", 2 * seconds)
    meter.count("published", anomalies)


def report(meter: Meter, seconds: float, stopped_by: StopReason | None = None) -> DrainReport:
    url = "http://localhost/000000000000/market_queue.fifo"
    return meter.report(
        queue_url=url, run_id="r", bundle_hash="b", warmup=False, seconds=seconds, stopped_by=stopped_by
    )


def reporting_job(reports: Sequence[DrainReport]) -> dg.JobDefinition:
    """Return a job whose op logs reports as a drain run does."""

    @dg.op
    def serve(context: dg.OpExecutionContext) -> None:
        for one in reports:
            log_report(context, one)

    @dg.job
    def serving_job() -> None:
        serve()

    return serving_job


def evaluations(*reports: DrainReport, instance: dg.DagsterInstance | None = None) -> list[dg.AssetCheckEvaluation]:
    """Return what an op logs of the promise that in = out."""
    return list(reporting_job(reports).execute_in_process(instance=instance).get_asset_check_evaluations())


def logged(reports: Sequence[DrainReport], capfd: pytest.CaptureFixture[str]) -> tuple[dict[str, list[dict]], str]:
    """Return the metadata of the materializations of each asset, and the last line of the run's log about the queue."""
    result = reporting_job(reports).execute_in_process()
    found: dict[str, list[dict]] = {}
    for event in result.get_asset_materialization_events():
        row = event.materialization
        entry = {name: value.value for name, value in row.metadata.items()}
        found.setdefault(row.asset_key.to_user_string(), []).append(entry)
    return found, [line for line in capfd.readouterr().err.splitlines() if "market_queue.fifo after" in line][-1]


@pytest.mark.requirement("MON-08")
def test_last_report_of_a_run_covers_the_whole_of_it(capfd: pytest.CaptureFixture[str]):
    meter = Meter()
    taken(meter, anomalies=3, seconds=0.0012345678)
    first = report(meter, 5.0)
    taken(meter, anomalies=1, seconds=0.1)
    found, line = logged([first, report(meter, 9.97, "window")], capfd)
    part, whole = found["anomalies"]
    assert (part["new_rows"], part["covers"], part["since_last_report"]["opened"]) == (
        3,
        "since the previous report",
        3,
    )
    assert (whole["new_rows"], whole["covers"], whole["since_start"]["opened"]) == (4, "the whole run, 10.0 s", 4)
    (row,) = [record.data for record in whole["latency"].records if record.data["step"] == "process"]
    assert (row["n"], row["p50_ms"], row["max_ms"]) == (4, 1.235, 100.0)
    assert [entry["new_rows"] for entry in found["output_queue"]] == [3, 4]
    assert "signals" not in found
    assert "opened 4" in line
    assert "; compute p50 1.235, p95 85.185, p99 97.037 ms; queue to queue p50 2.469, p95 " in line
    assert line.endswith("; ended with its window; a new run continues")


def test_assets_without_news_in_the_last_seconds_are_materialized_once_more_at_the_end(
    capfd: pytest.CaptureFixture[str],
):
    meter = Meter()
    taken(meter, anomalies=2, seconds=0.001)
    found, _ = logged([report(meter, 5.0), report(meter, 10.0), report(meter, 15.0, "idle")], capfd)
    assert [entry["new_rows"] for entry in found["anomalies"]] == [2, 2]


def test_run_without_messages_materializes_nothing(capfd: pytest.CaptureFixture[str]):
    found, line = logged([report(Meter(), 4.0, "idle")], capfd)
    assert found == {}
    assert line.endswith("market_queue.fifo after 4 s: no messages; ended: there is no work")


def test_conservation_is_evaluated_at_most_once_a_report_and_once_in_twenty_messages():
    meter, reports = Meter(), []
    for second in range(1, 61):
        taken(meter, anomalies=1, seconds=0.001)
        reports.append(report(meter, 5.0 * second, "idle" if second == 60 else None))
    found = evaluations(*reports)
    assert len(found) == 120 // MESSAGES_PER_EVALUATION
    assert all(one.passed for one in found)
    assert {(one.asset_key.to_user_string(), one.check_name) for one in found} == {("market_queue", CONSERVATION)}
    assert found[-1].description == "120 messages = 120 scored + 0 late + 0 dead + 0 duplicate + 0 redelivered"
    busy = Meter()
    taken(busy, anomalies=500, seconds=0.001)
    assert len(evaluations(report(busy, 5.0), report(busy, 10.0))) == 1


@pytest.mark.parametrize("stopped_by", [None, "window"])
def test_lost_message_fails_the_check_at_once_and_loudly(
    stopped_by: StopReason | None, capfd: pytest.CaptureFixture[str], instance: dg.DagsterInstance
):
    meter = Meter()
    meter._totals.update({"messages": 3, "finished": 3, "scored": 1, "redelivered": 1})
    lossy = report(meter, 5.0)
    taken(meter, anomalies=50, seconds=0.001)
    first, failed = evaluations(lossy, report(meter, 10.0, stopped_by), instance=instance)
    assert not first.passed
    assert not failed.passed
    assert failed.severity is dg.AssetCheckSeverity.ERROR
    assert "ERROR" in capfd.readouterr().err
    key = dg.AssetCheckKey(dg.AssetKey("market_queue"), CONSERVATION)
    (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    assert record.status.value == "FAILED"


def test_messages_in_work_are_no_loss_until_the_run_has_ended():
    meter = Meter()
    meter._totals.update({"messages": 30, "finished": 10, "scored": 20})
    during, lost = report(meter, 5.0), report(meter, 6.0, "lease_lost")
    after = report(meter, 6.0, "window")
    assert [one.passed for one in evaluations(during)] == [True]
    (left,) = evaluations(lost)
    assert left.passed
    assert str(left.description).endswith(" + 0 redelivered + 10 in progress")
    assert [one.passed for one in evaluations(after)] == [False]
    doubled = Meter()
    doubled._totals.update({"messages": 30, "scored": 31})
    assert [one.passed for one in evaluations(report(doubled, 5.0))] == [False]


def test_checks_that_a_run_evaluates_are_among_the_definitions():
    assert {CONSERVATION, publication.CHECK} <= {key.name for key in defs.resolve_asset_graph().asset_check_keys}


def test_every_reason_to_stop_has_a_sentence():
    assert set(STOP_TEXTS) == set(get_args(StopReason))


def test_publication_is_evaluated_with_the_first_outputs_then_every_minute_and_at_the_end(monkeypatch):
    waits = iter([Publication(0, 0.0), Publication(3, 61.0), Publication(0, 0.0)])
    monkeypatch.setattr(publication, "publication", lambda _: next(waits))
    meter, reports = Meter(), [report(Meter(), 0.0)]
    for seconds in (5.0, 10.0, 5.0 + EVALUATE_SECONDS, 10.0 + EVALUATE_SECONDS):
        taken(meter, anomalies=1, seconds=0.001)
        reports.append(report(meter, seconds))
    reports.append(report(meter, 70.0, "window"))

    @dg.op
    def serve(context: dg.OpExecutionContext) -> None:
        check = PublicationCheck(PlatformResource())
        for one in reports:
            check.evaluate(context, one)

    @dg.job
    def serving_job() -> None:
        serve()

    first, stuck, last = serving_job.execute_in_process().get_asset_check_evaluations()
    assert (first.passed, first.description) == (True, "no message waits for publication")
    assert not stuck.passed
    assert "3 messages wait for publication, the oldest for 61.0 s: read the log" in str(stuck.description)
    assert last.passed
