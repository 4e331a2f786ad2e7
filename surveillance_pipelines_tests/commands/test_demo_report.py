"""What the demo prints at its end."""

import re
import shlex
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import typer.main

from surveillance_pipelines.cli import app
from surveillance_pipelines.clock import to_us
from surveillance_pipelines.commands.demo_report import show_comparison, show_next_steps, show_service
from surveillance_pipelines.commands.demo_serving import Served
from surveillance_pipelines.services.demo_matching import Alert, compare
from surveillance_pipelines.training.injection import PLAN_SCHEMA
from surveillance_pipelines_tests.market.markets import minute


def planted(*rows: tuple[str, int, str, int]) -> pl.DataFrame:
    """Return a plan from symbol, minute after 15:00, kind and number of bars."""
    values = [(f"{s}-{m}", s, minute(15, m), kind, 8.0, bars) for s, m, kind, bars in rows]
    return pl.DataFrame(values, schema=PLAN_SCHEMA, orient="row")


def alert(symbol: str, at: int, kind: str) -> Alert:
    return Alert(symbol, to_us(minute(15, 0) + timedelta(minutes=at)), kind, "confirmed", 0.9)


def test_show_comparison_counts_planted_and_detected_anomalies_per_kind(capsys):
    plan = planted(("AAPL", 2, "ramping", 12), ("MSFT", 5, "ramping", 12), ("AAPL", 40, "price_gap", 1))
    alerts = [alert("AAPL", 5, "ramping"), alert("MSFT", 6, "price_gap"), alert("MSFT", 50, "price_gap")]
    show_comparison(compare(plan, alerts), 780)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:4]] == [
        ["price_gap", "1", "0", "0", "–"],
        ["ramping", "2", "2", "1", "3,", "1"],
    ]
    assert lines[4].startswith("detected 2 of 3 ")
    assert lines[5].startswith("false alerts: on 1 of 780 bars, 1 of them within 60 minutes")
    assert len(lines) == 6


@pytest.mark.parametrize("folder", ["home", "folder with spaces"])
def test_show_next_steps_prints_commands_that_exist_for_the_home_of_the_demo(capsys, tmp_path, monkeypatch, folder):
    program = tmp_path / "venv" / "surveillance"
    program.parent.mkdir()
    program.touch()
    monkeypatch.setattr("sys.argv", [str(program), "demo"])
    show_next_steps(tmp_path / folder, [tmp_path / folder / "demo" / "AAPL.png"])
    commands = [shlex.split(found) for found in re.findall("`([^`]+)`", capsys.readouterr().out)]
    known = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue] (a group)
    assert [command[3] for command in commands] == [
        "up",
        "incidents",
        "incidents",
        "alerts",
        "alerts",
        "feed",
        "tail",
        "ingest",
        "reset",
    ]
    assert {command[3] for command in commands} <= set(known)
    assert {command[0] for command in commands} == {str(program)}
    assert [Path(command[2]) for command in commands if command[3] != "ingest"] == [tmp_path / folder] * 8


@pytest.mark.usefixtures("own_folder")
def test_show_next_steps_for_the_default_home_and_a_program_on_path_are_short(capsys, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "surveillance"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr("sys.argv", [str(program), "demo"])
    show_next_steps(tmp_path / ".surveillance", [])
    assert "`surveillance up`" in capsys.readouterr().out


def test_show_service_is_three_lines(capsys):
    messages = [{"type": "anomaly"}, {"type": "incident", "incident_id": "i"}, {"type": "signal"}]
    served = Served(messages, {"scored": 1_200}, ["run"])
    spans = {"sent → published (queue to queue)": {"p50": 12.4, "p95": 30.0, "p99": 45.0}}
    show_service(served, 1_200, spans, at_once=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1,200 ticks sent = 1,200 scored; 1 drain run"
    assert lines[1].startswith("received: 1 messages about 1 incident, 1 about single alerts")
    assert "(queue to queue) 12 / 30 / 45; the whole day was sent at once" in lines[2]
