"""Commands that start Dagster runs, on a real instance in the test's own database."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from surveillance_pipelines.commands import training
from surveillance_pipelines.commands.dagster_home import open_instance
from surveillance_pipelines.commands.dagster_runs import RunOutcome
from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.services import training_set
from surveillance_pipelines_tests.commands.waiting import wait_for
from surveillance_pipelines_tests.market.markets import FIRST, LAST, market_bars

DAYS = (FIRST.isoformat(), LAST.isoformat())


@pytest.fixture
def landed(surveillance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``surveillance`` with bars landed, and no network."""
    monkeypatch.setenv("FALLBACK_TO_YFINANCE", "false")
    monkeypatch.setenv("SYMBOLS", "AAPL,MSFT")
    columns = ("symbol", "bar_start", "open", "high", "low", "close", "volume")
    market_bars().select(columns).write_parquet(tmp_path / "bars.parquet")
    assert surveillance("ingest", tmp_path / "bars.parquet").exit_code == 0
    return surveillance


def test_backfill_is_one_run_that_the_ui_finds_under_its_job(landed, platform) -> None:
    answer = landed("backfill", DAYS[0], DAYS[0])
    assert answer.exit_code == 0, answer.output
    assert "the lake has no bars" not in answer.output
    first_day = market_bars().filter(pl.col("date") == FIRST)
    assert platform.lake.read("features_core_v1").height == first_day.height
    with open_instance(platform) as instance:
        runs = instance.get_runs()
    assert [(run.job_name, run.is_success) for run in runs] == [("market_data_job", True)]
    assert runs[0].remote_job_origin is not None
    assert runs[0].remote_job_origin.location_name == "surveillance_pipelines"


def test_backfill_of_days_without_bars_says_how_to_get_them(landed) -> None:
    answer = landed("backfill", "2024-06-03", "2024-06-03")
    assert answer.exit_code == 0, answer.output
    assert "`surveillance ingest`" in answer.output


def test_backfill_of_days_with_daily_bars_only_writes_them_as_received_and_says_so(
    surveillance, platform, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("FALLBACK_TO_YFINANCE", "false")
    rows = [
        "date,symbol,open,high,low,close,volume",
        "2024-03-04,AAPL,176.15,176.90,173.79,175.10,81510101",
        "2024-03-04,MSFT,413.44,417.35,412.32,414.92,17596000",
        "2024-03-05,AAPL,170.76,172.04,169.62,170.12,95132355",
        "2024-03-05,MSFT,413.96,414.25,400.64,402.65,26919200",
    ]
    (tmp_path / "daily.csv").write_text("\n".join(rows))
    ingested = surveillance("ingest", tmp_path / "daily.csv")
    assert "next: `surveillance backfill 2024-03-04 2024-03-05` writes bars_1d" in " ".join(ingested.output.split())

    answer = surveillance("backfill", "2024-03-04", "2024-03-05")
    assert answer.exit_code == 0, answer.output
    written = {cells[1]: cells[3] for line in answer.output.splitlines() if len(cells := line.split()) == 5}
    assert written["bars_1d"] == "4"
    assert written["bars_1m"] == "0"
    assert "the lake has no bars" not in answer.output
    bars = platform.lake.read("bars_1d").sort("date", "symbol")
    assert (
        bars.select("date", "symbol", "open", "high", "low", "close", "volume")
        .with_columns(pl.col("date").cast(pl.String), pl.col("volume").cast(pl.Int64))
        .write_csv(float_precision=2)
        .splitlines()
        == rows
    )
    assert bars.select("source", "timeframe").unique().rows() == [("file", "1d")]
    assert bars["batch_id"].n_unique() == 1


def test_backfill_with_an_unknown_bundle_is_a_usage_error_before_any_run(surveillance, platform) -> None:
    answer = surveillance("backfill", *DAYS, "--job", "scoring_job", "--bundle", "0123456789")
    assert answer.exit_code == ExitCode.USAGE
    said = " ".join(answer.output.split())  # the terminal's width breaks lines
    assert "expected one registered bundle with the hash prefix '0123456789', found none" in said
    with open_instance(platform) as instance:
        assert instance.get_runs() == []


def test_backfill_of_bars_takes_no_bundle(bare) -> None:
    answer = bare("backfill", *DAYS, "--bundle", "warmup")
    assert answer.exit_code == ExitCode.USAGE
    assert "scoring_job" in answer.output


@pytest.mark.requirement("BEY-11")
def test_backfill_scores_with_the_bundle_that_is_asked_for(landed, platform) -> None:
    assert landed("backfill", DAYS[0], DAYS[0]).exit_code == 0
    answer = landed("backfill", DAYS[0], DAYS[0], "--job", "scoring_job", "--bundle", "warmup")
    assert answer.exit_code == 0, answer.output
    assert set(platform.lake.read("scores")["bundle_hash"]) == {"warmup"}
    with open_instance(platform) as instance:
        run = instance.get_runs()[0]
    config: Any = run.run_config
    assert config["ops"]["batch_scoring"]["config"] == {"bundle_hash": "warmup"}


def test_train_without_bars_says_what_was_expected_in_one_line(surveillance) -> None:
    answer = surveillance("train")
    assert answer.exit_code == ExitCode.FAILED
    said = " ".join(answer.output.split())
    assert "expected at least 3 days of 1-minute bars in the lake, found 0" in said
    assert "load 1-minute bars with `surveillance ingest PATH`" in said


def test_train_on_landed_bars_without_a_backfill_names_the_command_that_helps(surveillance, platform) -> None:
    platform.lake.append("bars_landed", market_bars(), batch_id="x")
    first, last = market_bars()["date"].min(), market_bars()["date"].max()
    said = " ".join(surveillance("train").output.split())
    assert f"`surveillance backfill {first} {last}` computes them from the landed bars" in said


def test_backfill_the_wrong_way_round_is_a_usage_error(surveillance) -> None:
    assert surveillance("backfill", LAST.isoformat(), FIRST.isoformat()).exit_code == ExitCode.USAGE


@pytest.mark.parametrize("days", [("2000-01-03", "2000-01-07"), ("2024-03-06", "2199-01-01")])
def test_backfill_of_days_without_a_partition_is_a_usage_error(bare, tmp_path, days) -> None:
    answer = bare("backfill", *days)
    assert answer.exit_code == ExitCode.USAGE
    assert "2008-01-01" in answer.output
    assert not (tmp_path / "home").exists()


def test_backfill_of_an_unknown_job_is_a_usage_error(bare, tmp_path) -> None:
    answer = bare("backfill", *DAYS, "--job", "nope")
    assert answer.exit_code == ExitCode.USAGE
    assert "scoring_job" in answer.output
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("options", "days"),
    [
        ((), {}),
        (("--last", DAYS[1]), {"last_day": DAYS[1]}),
        (("--first", DAYS[0], "--last", DAYS[1]), {"first_day": DAYS[0], "last_day": DAYS[1]}),
    ],
)
def test_train_without_a_first_or_last_day_leaves_it_to_the_bars_there_are(bare, monkeypatch, options, days) -> None:
    asked = []

    def run(_platform, job, **given):
        asked.append((job, given["run_config"]["ops"]["training_set"]["config"]))
        return RunOutcome("run", succeeded=True, materialized={}, checks=(), errors=(), seconds=1.0)

    monkeypatch.setattr(training, "run_job", run)
    monkeypatch.setattr(training_set, "require_training_bars", lambda *_: None)
    bare("train", *options)
    assert asked == [("training_job", {**days, "seed": 7})]


@pytest.mark.requirement("TRN-02")
def test_train_on_too_few_rows_says_so_and_fails(landed, platform, monkeypatch) -> None:
    platform.lake.write_days("bars_1m", market_bars(), days=market_bars()["date"].unique().to_list())
    monkeypatch.setenv("MODEL_TRAINING_MIN_DATASET_SIZE", "1000000")
    answer = landed("train", "--first", DAYS[0], "--last", DAYS[1])
    assert answer.exit_code == ExitCode.FAILED
    assert "MODEL_TRAINING_MIN_DATASET_SIZE is 1000000" in answer.output.replace("\n", " ")
    assert "Traceback" not in answer.output
    with platform.connect() as connection:
        assert connection.execute("SELECT count(*) FROM surveillance.model_versions").fetchone() == (0,)


@pytest.mark.slow
@pytest.mark.requirement("TRN-04")
def test_train_refused_by_the_gate_keeps_the_version_and_exits_with_failed(landed, platform, monkeypatch) -> None:
    platform.lake.write_days("bars_1m", market_bars(), days=market_bars()["date"].unique().to_list())
    monkeypatch.setenv("MODEL_QUALITY_THRESHOLD_ACCURACY", "1.0")
    answer = landed("train")
    assert answer.exit_code == ExitCode.FAILED, answer.output
    assert f"bars from {DAYS[0]} to {DAYS[1]}" in answer.output
    assert "refused: v1 is kept" in answer.output
    said = "".join(answer.output.split())
    assert f"--bundle{platform.endpoints.models_path}/v1" in said
    assert "accuracy fails" in answer.output
    with platform.connect() as connection:
        assert connection.execute("SELECT 1 FROM surveillance.deployments").fetchall() == []


@pytest.mark.slow
def test_up_serves_the_ui_and_ends_all_its_children_on_sigterm(tmp_path: Path) -> None:
    port = 3900 + os.getpid() % 90
    log = (tmp_path / "up.log").open("w")
    command = [sys.executable, "-c", "from surveillance_pipelines.cli import main; main()", "up", "--port", str(port)]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        address = f"http://127.0.0.1:{port}/server_info"
        wait_for(lambda: answers(address), seconds=120)
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("dagster-daemon" in " ".join(member.cmdline()) for member in family if member.is_running())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == ExitCode.OK
    # The services stay a few seconds longer, for whoever comes next.
    wait_for(lambda: not any(member.is_running() for member in family), seconds=30)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
