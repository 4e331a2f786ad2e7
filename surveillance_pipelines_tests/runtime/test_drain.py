"""A drain run over a real queue and a real database."""

import json
import os
import signal
import subprocess
import sys
from datetime import date, timedelta

import pytest

from surveillance_pipelines.clock import ManualClock, now
from surveillance_pipelines.contracts.outputs import Anomaly, Incident, Signal, column_names, to_record
from surveillance_pipelines.runtime import service_outages
from surveillance_pipelines.runtime.drain import shell_options
from surveillance_pipelines.runtime.serving_engine import load_calendars
from surveillance_pipelines.services.drain import main
from surveillance_pipelines.services.endpoints import child_environment
from surveillance_pipelines.stores.check_queries import compute_latency
from surveillance_pipelines.stores.lease import acquire
from surveillance_pipelines.stores.predictors import NoModelError
from surveillance_pipelines_tests.engine.market import received, stream

WAITING = """
    SELECT count(*) FROM ops.outbox LEFT JOIN ops.outbox_deliveries AS delivered USING (position)
    WHERE delivered.position IS NULL
"""
MALFORMED = (
    "", "nonsense", "[]", "null", "42", '"SPY"', "{}", '{"symbol":"SPY"}',
    '{"symbol":"SPY","price":NaN,"volume":1,"timestamp":"2024-03-05T15:00:00Z"}',
    '{"symbol":"SPY","price":Infinity,"volume":1,"timestamp":"2024-03-05T15:00:00Z"}',
    '{"symbol":"SPY","price":-1,"volume":1,"timestamp":"2024-03-05T15:00:00Z"}',
    '{"symbol":"SPY","price":0,"volume":1,"timestamp":"2024-03-05T15:00:00Z"}',
    '{"symbol":"SPY","price":1e300,"volume":1,"timestamp":"2024-03-05T15:00:00Z"}',
    '{"symbol":"SPY","price":1,"volume":-1,"timestamp":"2024-03-05T15:00:00Z"}',
    '{"symbol":"SPY","price":"1,0","volume":1,"timestamp":"2024-03-05T15:00:00Z"}',
    '{"symbol":"spy","price":1,"volume":1,"timestamp":"2024-03-05T15:00:00Z"}',
    '{"symbol":"SPY","price":1,"volume":1,"timestamp":"yesterday"}',
    '{"symbol":"SPY","price":1,"volume":1,"timestamp":"2024-03-05T15:00:00"}',
    '{"symbol":"SPY","price":1,"volume":1,"timestamp":"2999-01-01T00:00:00Z"}',
    '{"symbol":"\\u0000\\ud800","price":1,"volume":1,"timestamp":"2024-03-05T15:00:00Z"}',
)  # fmt: skip


@pytest.mark.requirement("ING-01", "ING-04")
def test_drain_serves_the_queue_and_stops_when_it_stays_idle(live_lane):
    messages = stream(40)
    live_lane.send(messages)
    report = live_lane.drain(window_seconds=30)
    assert report.stopped_by == "idle"
    assert report.totals["messages"] == report.totals["scored"] == len(messages)
    assert report.totals["bars"] == 3 * 40
    assert live_lane.inputs.depth().total == 0
    assert live_lane.outcomes() == {"scored": len(messages)}
    assert live_lane.column("SELECT count(*) FROM surveillance.predictions") == [120]


def test_rows_on_the_wire_in_the_tables_and_in_a_replay_are_the_same(live_lane):
    live_lane.send(stream(90))
    live_lane.drain(window_seconds=30)
    wire = [json.loads(body) for body in live_lane.wire()]
    replayed = live_lane.replayed()
    assert {message["id"] for message in wire} == {row.id for row in replayed.outputs}
    assert len(wire) == len(replayed.outputs)
    for row_type, table in ((Anomaly, "anomalies"), (Incident, "incidents"), (Signal, "signals")):
        columns = [name for name in column_names(row_type) if not name.startswith("t_") and name != "run_id"]
        plain = [name for name in columns if not name.endswith("_time") and not name.endswith("bar_start")]
        stored = live_lane.query(f"SELECT {', '.join(plain)} FROM surveillance.{table}")
        expected = [to_record(row) for row in replayed.outputs if isinstance(row, row_type)]
        values = [[record[name] for name in plain] for record in expected]
        as_stored = [tuple(list(v) if isinstance(v, tuple) else v for v in row) for row in values]
        assert sorted(stored) == sorted(as_stored)
    assert {m["type"] for m in wire} == {"anomaly", "incident", "signal", "score"}


def test_published_instant_is_on_the_wire_and_in_the_tables(live_lane):
    live_lane.send(stream(90))
    live_lane.drain(window_seconds=30)
    assert live_lane.column(WAITING) == [0]
    assert live_lane.column("SELECT count(*) FROM surveillance.anomalies WHERE t_published IS NULL") == [0]
    for message in map(json.loads, live_lane.wire()):
        assert message["t_received"] <= message["t_computed"] <= message["t_committed"] <= message["t_published"]
        assert message["run_id"] == "run-1"


@pytest.mark.requirement("ING-01")
def test_twenty_malformed_messages_are_kept_with_reasons_and_nothing_is_lost(live_lane):
    good = stream(10)
    bad = [received(body or " ", 5_000 + i) for i, body in enumerate(MALFORMED)]
    live_lane.send([message for i, m in enumerate(good) for message in ([m, bad[i]] if i < len(bad) else [m])])
    report = live_lane.drain(window_seconds=30)
    assert live_lane.outcomes() == {"scored": len(good), "dead": len(bad)}
    assert report.totals["messages"] == len(good) + len(bad)
    kept = live_lane.query("SELECT body, code, reason FROM ops.dead_letters")
    assert sorted(body for body, _, _ in kept) == sorted(message.body for message in bad)
    assert all(code and "expected" in reason for _, code, reason in kept)


def test_second_run_takes_up_where_the_first_stopped(live_lane):
    messages = stream(60)
    live_lane.send(messages[:200])
    assert live_lane.drain(window_seconds=0.1).stopped_by == "window"
    live_lane.send(messages[200:])
    live_lane.drain(window_seconds=30)
    replayed = live_lane.replayed()
    assert sorted(live_lane.column("SELECT id FROM ops.outbox")) == sorted(row.id for row in replayed.outputs)


def test_signal_stops_the_run_after_what_it_has_received_and_frees_the_lease(live_lane):
    live_lane.send(stream(20))
    steps = []

    def interrupt(step):
        steps.append(step)
        if step == "process":
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    report = live_lane.drain(window_seconds=30, after_step=interrupt)
    assert report.stopped_by == "signal"
    assert steps.count("receive") == steps.count("process") <= steps.count("commit") < 18
    assert sum(live_lane.outcomes().values()) == live_lane.column("SELECT count(*) FROM ops.inbox")[0]
    assert live_lane.inputs.depth().in_flight == 0
    assert live_lane.column("SELECT expires_at <= clock_timestamp() FROM ops.leases") == [True]
    assert live_lane.column("SELECT count(*) FROM ops.in_flight") == [0]
    assert signal.getsignal(signal.SIGTERM) is before


def test_run_gives_way_while_another_holds_the_queue(live_lane):
    with live_lane.connect() as connection:
        acquire(connection, live_lane.queue_url, holder="other", seconds=60)
        acquire(connection, live_lane.queue_url, holder="third", seconds=60, role="standby")
    assert live_lane.drain(window_seconds=0.2).stopped_by == "lease_held"


def test_run_whose_lease_is_taken_stops_and_writes_nothing_more(live_lane):
    live_lane.send(stream(20))

    def steal(step):
        if step == "process":
            with live_lane.connect() as connection:
                connection.execute("UPDATE ops.leases SET fencing = fencing + 1, holder = 'other'")

    report = live_lane.drain(window_seconds=30, after_step=steal)
    assert report.stopped_by == "lease_lost"
    assert live_lane.outcomes() == {}
    assert live_lane.column("SELECT count(*) FROM ops.inbox") == [0]


@pytest.mark.requirement("MON-08")
def test_reports_tell_rates_and_latencies(live_lane):
    live_lane.send(stream(90))
    reports = []
    final = live_lane.drain(window_seconds=30, on_report=reports.append)
    assert reports[-1] == final
    assert final.messages_per_second > 0
    assert {"process", "commit", "publish", "queue_to_queue"} <= set(final.latency)
    assert 0 < final.latency["process"].p50 <= final.latency["process"].p99
    assert (final.anomaly_rate, final.fallback_rate) == (final.totals["confirmed"] / final.totals["bars"], 0.0)
    assert sum(report.interval.get("messages", 0) for report in reports) == final.totals["messages"]


def test_bar_outside_the_sessions_on_record_is_marked_as_fallback(live_lane):
    with live_lane.connect() as connection:
        connection.execute("DELETE FROM surveillance.sessions WHERE session_date <> '2024-03-04'")
    live_lane.send(stream(3))
    assert live_lane.drain(window_seconds=30).fallback_rate == 1.0


def test_sessions_are_read_whatever_the_machines_clock_says(live_lane):
    with live_lane.connect() as connection:
        connection.execute(
            "UPDATE surveillance.sessions SET session_date = '2200-01-06', opens_at = '2200-01-06 14:30Z',"
            " closes_at = '2200-01-06 21:00Z' WHERE session_date = '2024-03-06'"
        )
        table = load_calendars(connection, live_lane.settings, {})
    known = [date.fromordinal(number) for number in table.session_ids.tolist()]
    assert known == [date(2024, 3, 4), date(2024, 3, 5), date(2200, 1, 6)]


def test_nothing_is_served_without_a_model_when_warm_up_is_off(live_lane):
    object.__setattr__(live_lane, "settings", live_lane.settings.model_copy(update={"warmup_mode_enabled": False}))
    with pytest.raises(NoModelError, match="WARMUP_MODE_ENABLED"):
        live_lane.drain(window_seconds=1)


@pytest.mark.requirement("ING-04")
def test_polls_are_long_but_a_run_that_stops_need_not_wait_for_long(settings):
    polls = {
        wait: shell_options(settings.model_copy(update={"sqs_wait_time": wait})).poll_seconds for wait in (0, 2, 20)
    }
    assert polls == {0: 1, 2: 2, 20: 3}


@pytest.mark.requirement("MON-11")
def test_run_logs_json_lines_with_its_id_at_the_level_that_is_set(live_lane, capsys):
    live_lane.drain(window_seconds=0.1)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["serving", "drain run ended"]
    assert {line["correlation_id"] for line in lines} == {"run-1"}
    object.__setattr__(live_lane, "settings", live_lane.settings.model_copy(update={"log_level": "WARNING"}))
    live_lane.drain(window_seconds=0.1)
    assert capsys.readouterr().err == ""


def test_process_loads_no_training_library_and_no_dagster():
    banned = (
        "dagster", "torch", "mlflow", "pandas", "sklearn", "xgboost", "matplotlib", "exchange_calendars", "dbt",
        "alembic", "yfinance",
    )  # fmt: skip
    code = f"import sys, surveillance_pipelines.runtime.drain; print([m for m in {banned!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_command_line_serves_a_queue_and_prints_the_report(live_lane, monkeypatch, capsys):
    for name, value in child_environment(live_lane.endpoints).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SYMBOLS", ",".join(live_lane.settings.symbols))
    live_lane.send(stream(2))
    assert main(["--queue-url", live_lane.queue_url, "--run-id", "cli", "--window-seconds", "1"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["run_id"], report["totals"]["scored"], report["stopped_by"]) == ("cli", 18, "window")


@pytest.mark.parametrize("seconds", ["-3", "0", "inf", "nan", "soon"])
def test_command_line_with_an_invalid_window_is_refused(capsys, seconds):
    with pytest.raises(SystemExit) as ended:
        main(["--window-seconds", seconds])
    assert ended.value.code == 2
    assert "--window-seconds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({"OUTPUT_CHANNELS": "sqs,redis"}, 2, "error: expected REDIS_URL for the channel redis in OUTPUT_CHANNELS"),
        ({"SQS_ENDPOINT_URL": "http://127.0.0.1:1"}, 1, "error: expected SQS or S3 to accept the call"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/none"}, 1, "error: expected PostgreSQL to answer"),
    ],
)
def test_command_line_with_an_error_of_the_user_prints_it_with_a_remedy(
    live_lane, monkeypatch, capsys, variables, code, words
):
    for name, value in (child_environment(live_lane.endpoints) | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(service_outages, "START_OUTAGE_SECONDS", 0.5)
    assert main(["--queue-url", live_lane.queue_url, "--window-seconds", "1"]) == code
    printed = capsys.readouterr().err
    assert words in printed
    assert "what to do: " in printed
    assert "Traceback" not in printed


@pytest.mark.requirement("MON-08")
def test_compute_latency_is_read_from_the_rows_of_the_last_hours(live_lane):
    with live_lane.connect() as connection:
        assert compute_latency(connection, hours=1.0) == (0, 0.0, 0.0)
    live_lane.send(stream(5))
    live_lane.drain(window_seconds=30)
    later = ManualClock(now() + timedelta(hours=3))
    with live_lane.connect() as connection:
        rows, p50, p99 = compute_latency(connection, hours=1.0)
        assert rows >= live_lane.column("SELECT count(*) FROM surveillance.predictions")[0] > 0
        assert 0.0 < p50 <= p99
        assert compute_latency(connection, hours=1.0, clock=later) == (0, 0.0, 0.0)
